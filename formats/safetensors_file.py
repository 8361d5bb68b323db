"""The safetensors layout read without copies and written in order; bfloat16 and float8 kept as their bits."""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .errors import CorruptFile, InvalidParameter, TruncatedFile, UnsupportedInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from .limits import Limits

__all__ = ["DTYPES", "Tensor", "dtype_name", "read_safetensors", "write_safetensors"]

# safetensors name -> the NumPy type that holds the bits
DTYPES: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An array with its safetensors type; ``BF16`` is held as uint16 bits, float8 types as uint8 bits."""

    dtype: str
    data: NDArray[Any]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InvalidParameter(f"tensor type {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.data.dtype != np.dtype(DTYPES[self.dtype]):
            raise InvalidParameter(f"a {self.dtype} tensor cannot be held as {self.data.dtype}")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def size_bytes(self) -> int:
        return int(self.data.nbytes)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The safetensors name of a NumPy type.

    Raises :class:`UnsupportedInput` for complex, text, object and other types that have none.
    """
    little = dtype.newbyteorder("<") if dtype.itemsize > 1 else dtype
    for name, held_as in DTYPES.items():
        if name not in ("BF16", "F8_E4M3", "F8_E5M2") and np.dtype(held_as) == little:
            return name
    raise UnsupportedInput(f"arrays of type {dtype} have no safetensors type; use float32 or float16")


def read_safetensors(data: bytes | mmap.mmap, *, name: str, limits: Limits) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Views of every tensor of ``data`` by name, and the metadata.

    The header must be well formed, and the tensors must cover the rest of the file exactly, without overlap.

    Raises :class:`CorruptFile`, :class:`TruncatedFile`, :class:`UnsupportedInput`, :class:`LimitExceeded`.
    """
    if len(data) < _LENGTH.size:
        raise TruncatedFile(f"{name}: {len(data)} bytes are too few for a safetensors file")
    (length,) = _LENGTH.unpack(data[: _LENGTH.size])
    start = _LENGTH.size + length
    if start > len(data) and bytes(data[_LENGTH.size : _LENGTH.size + 1]) != b"{":
        raise CorruptFile(f"{name} is neither a safetensors nor an npy file")
    limits.check("max_header_bytes", length, f"the safetensors header of {name}")
    if start > len(data):
        raise TruncatedFile(f"{name}: the file ends inside its {length:,}-byte safetensors header")
    header = _parse(data[_LENGTH.size : start], name)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CorruptFile(f"{name}: the metadata is not a map of strings")
    tensors: dict[str, Tensor] = {}
    extents = []
    for key, entry in header.items():
        begin, end, tensor = _view(data, start, key, entry, name)
        extents.append((begin, end, key))
        tensors[key] = tensor
    position = 0
    for begin, end, key in sorted(extents):
        if begin != position:
            raise CorruptFile(f"{name}: tensor {key!r} begins at {begin:,}, expected {position:,}")
        position = end
    if start + position != len(data):
        raise CorruptFile(f"{name}: {len(data) - start - position:,} bytes belong to no tensor")
    return tensors, dict(metadata)


def write_safetensors(stream: BinaryIO | Any, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Write ``tensors`` in their order; return the number of bytes."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for key, tensor in tensors.items():
        header[key] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.size_bytes],
        }
        position += tensor.size_bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    stream.write(_LENGTH.pack(len(text)) + text)
    for piece in _pieces(tensors):
        stream.write(piece)
    return _LENGTH.size + len(text) + position


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    for tensor in tensors.values():
        if tensor.size_bytes:
            yield np.ascontiguousarray(tensor.data).reshape(-1).data.cast("B")


def _parse(text: bytes, name: str) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CorruptFile(f"{name}: not a safetensors file: its header is not JSON ({error})") from error
    except _DuplicateKeyError as error:
        raise CorruptFile(f"{name}: the safetensors header names {error} twice") from error
    if not isinstance(header, dict):
        raise CorruptFile(f"{name}: the safetensors header is not an object")
    return header


class _DuplicateKeyError(Exception):
    """A key stands twice in one JSON object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _DuplicateKeyError(repr(key))
        result[key] = value
    return result


def _view(data: bytes | mmap.mmap, start: int, key: str, entry: Any, name: str) -> tuple[int, int, Tensor]:
    where = f"{name}: tensor {key!r}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CorruptFile(f"{where} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in DTYPES:
        raise UnsupportedInput(f"{where} has the type {dtype!r}, expected one of {', '.join(DTYPES)}")
    if not _is_integers(shape) or not _is_integers(offsets) or len(offsets) != 2:
        raise CorruptFile(f"{where}: shape or data_offsets are not whole numbers")
    begin, end = offsets
    held_as = np.dtype(DTYPES[dtype])
    count = 1
    for side in shape:
        count *= side
    if end - begin != count * held_as.itemsize or start + end > len(data):
        raise CorruptFile(f"{where}: shape {shape} of {dtype} does not fit bytes {begin:,} to {end:,} of the data")
    if count == 0:
        return begin, end, Tensor(dtype=dtype, data=np.zeros(shape, held_as))
    view = np.frombuffer(data, held_as, count=count, offset=start + begin).reshape(shape)
    return begin, end, Tensor(dtype=dtype, data=view)


def _is_integers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 62 for item in value
    )
