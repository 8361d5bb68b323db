"""Where the files that come with the package lie, and reading them within bounds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ....formats.errors import CorruptFile, ExternalFailure

__all__ = ["dictionary_path", "model_path", "read_file", "window_strings_path"]

_FOLDER = Path(__file__).parent
_MOST_BYTES = 64 << 20


def model_path() -> Path:
    """The byte model of the windows, trained on English books."""
    return _FOLDER / "english_model.safetensors"


def window_strings_path() -> Path:
    """The windows of 16 bits that the byte model makes; they follow from it and are kept to save time."""
    return _FOLDER / "english_windows.strings.xz"


def dictionary_path() -> Path:
    """The refined dictionary, trained on English books."""
    return _FOLDER / "english_dictionary.strings.xz"


def read_file(path: Path) -> tuple[bytes, str]:
    """The bytes of a file and their SHA-256 in hex.

    Raises :class:`ExternalFailure` when it cannot be read, :class:`CorruptFile` when it is absurdly large.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CorruptFile(f"{path}: larger than {_MOST_BYTES:,} bytes, which no model or dictionary is")
        content = path.read_bytes()
    except OSError as error:
        raise ExternalFailure(f"cannot read {path}: {error.strerror}; reinstall codeckit or name a file") from error
    return content, hashlib.sha256(content).hexdigest()
