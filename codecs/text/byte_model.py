"""The shipped byte model: the n-gram memory and the trained starting state of each preset.

One safetensors file; its SHA-256 is written into every text file that needs it, and a reader with another
model refuses instead of decoding wrong bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import CorruptFile, ExternalFailure, NumericProfileMismatch
from .packed_memory import check_packed_memory, unpack_memory

__all__ = ["ByteModel", "load_byte_model", "require_model", "shipped_model_path"]

_MAX_MODEL_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class ByteModel:
    """Weights of the text codecs.

    ``packed``: counts and slots of the n-gram memory as in the file; ``tensors``: everything else by name, such as
    ``max.prose.history_maps``; ``sha256``: hex digest of the file they came from.
    """

    packed: tuple[NDArray[np.generic], NDArray[np.generic]]
    tensors: dict[str, NDArray[np.generic]]
    sha256: str

    @cached_property
    def memory(self) -> NDArray[np.uint16]:
        """Slots of the n-gram memory (uint16), unpacked when a preset first needs them."""
        return unpack_memory(*self.packed)


def shipped_model_path() -> Path:
    """Where the package keeps its model."""
    return Path(__file__).with_name("byte_model.safetensors")


@lru_cache(maxsize=2)
def load_byte_model(path: Path | None = None) -> ByteModel:
    """Load a model file, by default the shipped one; the same path is read once per process.

    Raises:
        ExternalFailure: the file is missing.
        CorruptFile: it is not a byte model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    location = path or shipped_model_path()
    try:
        if location.stat().st_size > _MAX_MODEL_BYTES:
            raise CorruptFile(f"{location}: larger than {_MAX_MODEL_BYTES:,} bytes, not a byte model")
        content = location.read_bytes()
    except OSError as error:
        raise ExternalFailure(f"cannot read the byte model {location}: {error.strerror}; reinstall") from error
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CorruptFile(f"{location}: not a safetensors file ({error})") from error
    try:
        packed = (tensors.pop("memory_counts"), tensors.pop("memory_slots"))
        check_packed_memory(*packed)
    except KeyError as error:
        raise CorruptFile(f"{location}: tensor {error} is missing, not a byte model") from error
    except ValueError as error:
        raise CorruptFile(f"{location}: {error}") from error
    return ByteModel(packed=packed, tensors=dict(tensors), sha256=hashlib.sha256(content).hexdigest())


def require_model(wanted: str) -> ByteModel:
    """The shipped model, provided its digest is ``wanted``.

    Raises:
        NumericProfileMismatch: the file was coded with another model.
    """
    model = load_byte_model()
    if model.sha256 != wanted:
        raise NumericProfileMismatch(
            f"the file was coded with byte model {wanted[:16]}..., this installation has {model.sha256[:16]}...; "
            "install the codeckit version that wrote it"
        )
    return model
