"""CacheGen's profiles: a safetensors file with the tables of one or more levels."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.limits import DEFAULT_LIMITS
from ...formats.safetensors_file import Tensor, read_safetensors, write_safetensors
from .cachegen_tables import read_tables, write_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .cachegen_tables import CacheGenTables

__all__ = ["load_tables", "profile_levels", "save_tables"]

_FORMAT = "codeckit.cachegen-profile"


def save_tables(tables: Sequence[CacheGenTables], model: str, stream: Any) -> str:
    """Write a profile of several levels; return its SHA-256."""
    buffer = io.BytesIO()
    tensors = {
        f"levels.{own.level}": Tensor(dtype="U8", data=np.frombuffer(write_tables(own), np.uint8)) for own in tables
    }
    write_safetensors(buffer, tensors, {"format": _FORMAT, "model": model})
    stream.write(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_tables(path: Path, level: int) -> tuple[CacheGenTables, str, str]:
    """The tables of one level of a profile, its model and its SHA-256.

    Raises :class:`InvalidParameter` for a missing file or level, :class:`CorruptFile` for a damaged one.
    """
    data, tensors, metadata = _read_profile(path)
    if f"levels.{level}" not in tensors:
        known = ", ".join(str(number) for number in _levels(tensors))
        raise InvalidParameter(f"the profile {path} was made for the levels {known}, not for level={level}")
    tables = read_tables(tensors[f"levels.{level}"].data.tobytes())
    if tables.level != level:
        raise CorruptFile(f"{path}: the tables of level {level} are of level {tables.level}")
    return tables, metadata.get("model", ""), hashlib.sha256(data).hexdigest()


def profile_levels(path: Path) -> list[int]:
    """The levels a profile was made for."""
    return _levels(_read_profile(path)[1])


def _levels(tensors: Mapping[str, Tensor]) -> list[int]:
    numbers = [name.partition("levels.")[2] for name in tensors]
    return sorted(int(number) for number in numbers if number.isdecimal())


def _read_profile(path: Path) -> tuple[bytes, dict[str, Tensor], dict[str, str]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot read the profile {path}: {error.strerror or error}") from error
    tensors, metadata = read_safetensors(data, name=str(path), limits=DEFAULT_LIMITS)
    if metadata.get("format") != _FORMAT:
        raise CorruptFile(f"{path} is not a {_FORMAT} file; make one with `codec train cachegen`")
    return data, tensors, metadata
