"""Tensors in and out: the ``tensors`` kind, for safetensors and npy files, arrays, and KV-cache objects.

Tensors have names. A bare array, an npy file or a torch tensor is one tensor called :data:`ARRAY`. A transformers
cache object becomes ``layers.{i}.key`` and ``layers.{i}.value`` of shape [kv_heads, tokens, head_dim].
"""

from __future__ import annotations

import io
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from .atomic_file import AtomicFile, output_errors
from .errors import CorruptFile, InvalidParameter, OutputFailure, UnsupportedInput
from .safetensors_file import Tensor, dtype_name, read_safetensors, write_safetensors
from .spooling import is_stream_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .limits import Limits

__all__ = [
    "ARRAY",
    "Tensor",
    "TensorSink",
    "TensorSource",
    "as_tensor",
    "memory_sink",
    "natural_value",
    "open_sink",
    "open_source",
]

ARRAY = "array"

_NPY_MAGIC = b"\x93NUMPY"
_READ_PIECE = 1 << 20


class TensorSource:
    """Named tensors with string metadata; ``size_bytes`` is the size of the file, or of the tensors in memory."""

    def __init__(
        self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, size_bytes: int, name: str
    ) -> None:
        self.tensors = dict(tensors)
        self.metadata = dict(metadata)
        self.size_bytes = size_bytes
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.tensors.clear()


class TensorSink:
    """Collects named tensors; :meth:`commit` writes them out, or leaves them in ``value``.

    A path that ends in ``.npy`` takes exactly one tensor, called :data:`ARRAY`; one in ``.safetensors`` or without a
    suffix, and a stream, any number.
    """

    def __init__(self, target: Any, *, overwrite: bool, limits: Limits) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._limits = limits
        self._file: AtomicFile | None = None
        self._stream: BinaryIO | None = None
        self._is_npy = False
        self._committed = False
        self.metadata: dict[str, str] = {}
        self.size_bytes = 0
        if isinstance(target, (str, os.PathLike)):
            suffix = Path(target).suffix.lower()
            if suffix not in ("", ".npy", ".safetensors"):
                raise InvalidParameter(f"{target}: tensors are written as .npy or .safetensors, not as {suffix}")
            self._is_npy = suffix == ".npy"
            self._file = AtomicFile(target, overwrite=overwrite)
        elif target is not None:
            self._stream = target

    def put(self, name: str, tensor: Tensor) -> None:
        """Add a tensor; names are written in the order of their first ``put``."""
        if name in self._tensors:
            raise ValueError(f"tensor {name!r} was written already")
        self._tensors[name] = tensor
        total = sum(item.size_bytes for item in self._tensors.values())
        self._limits.check("max_output_bytes", total, "the decoded tensors")

    def commit(self) -> None:
        """Make the output final."""
        if self._file is not None:
            self.size_bytes = self._write(self._file)
            self._file.commit()
        elif self._stream is not None:
            with output_errors("output stream"):
                self.size_bytes = self._write(self._stream)
                self._stream.flush()
        else:
            self.size_bytes = sum(item.size_bytes for item in self._tensors.values())
        self._committed = True

    @property
    def value(self) -> Any:
        """What was put: an array for a lone :data:`ARRAY`, else a dict of arrays by name.

        bfloat16 and float8 tensors, which NumPy lacks, come back as torch tensors, all others as ndarrays.
        """
        if not self._committed:
            raise ValueError("commit the sink before taking its value")
        if list(self._tensors) == [ARRAY]:
            return natural_value(self._tensors[ARRAY])
        return {name: natural_value(tensor) for name, tensor in self._tensors.items()}

    def _write(self, stream: Any) -> int:
        if not self._is_npy:
            return write_safetensors(stream, self._tensors, self.metadata)
        if list(self._tensors) != [ARRAY]:
            raise OutputFailure(
                f"an npy file holds one array, the output has {len(self._tensors)} tensors; "
                "give the output the suffix .safetensors"
            )
        tensor = self._tensors[ARRAY]
        if tensor.dtype in ("BF16", "F8_E4M3", "F8_E5M2"):
            raise OutputFailure(f"npy has no {tensor.dtype}; give the output the suffix .safetensors")
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(tensor.data))
        stream.write(buffer.getvalue())
        stream.write(np.ascontiguousarray(tensor.data).reshape(-1).data.cast("B"))
        return len(buffer.getvalue()) + tensor.size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._file is not None:
            self._file.__exit__(*details)


def open_source(value: Any, *, limits: Limits) -> TensorSource:
    """Open a path, bytes, a binary file object, an array or tensor, a dict of them, or a cache object.

    Raises :class:`UnsupportedInput`, :class:`InvalidParameter`, :class:`CorruptFile`, :class:`LimitExceeded`.
    """
    if isinstance(value, (str, os.PathLike)):
        return _open_path(Path(value), limits)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(value), "bytes", limits)
    if hasattr(value, "read"):
        return _from_bytes(_read_all(value, limits), str(getattr(value, "name", "stream")), limits)
    if hasattr(value, "named_tensors"):
        tensors, metadata = value.named_tensors()
        return _in_memory(tensors, metadata, type(value).__name__)
    if hasattr(value, "layers"):
        return _in_memory(_cache_tensors(value), {}, type(value).__name__)
    if isinstance(value, dict):
        tensors = {str(name): as_tensor(item, str(name)) for name, item in value.items()}
        return _in_memory(tensors, {}, "dict")
    return _in_memory({ARRAY: as_tensor(value, ARRAY)}, {}, type(value).__name__)


def open_sink(target: Any, *, overwrite: bool, limits: Limits) -> TensorSink:
    """A sink for a path or a writable binary stream."""
    if isinstance(target, (str, os.PathLike)) or hasattr(target, "write"):
        return TensorSink(target, overwrite=overwrite, limits=limits)
    raise OutputFailure(f"cannot write to a {type(target).__name__}; give a path or a binary file object")


def memory_sink(*, limits: Limits) -> TensorSink:
    """A sink that keeps the tensors as ``value``."""
    return TensorSink(None, overwrite=False, limits=limits)


def as_tensor(value: Any, name: str) -> Tensor:
    """A :class:`Tensor` of a NumPy array or a torch tensor; no copy where the memory allows it.

    Raises :class:`UnsupportedInput` for anything else and for types without a safetensors name.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        dtype = dtype_name(value.dtype)
        return Tensor(dtype=dtype, data=value.astype(value.dtype.newbyteorder("<"), copy=False))
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return _from_torch(value, name)
    raise UnsupportedInput(f"{name} is a {type(value).__name__}; expected a NumPy array or a torch tensor")


def natural_value(tensor: Tensor) -> Any:
    """The ndarray of ``tensor``, or a torch tensor of the types that NumPy lacks."""
    if tensor.dtype not in ("BF16", "F8_E4M3", "F8_E5M2"):
        return tensor.data
    import torch  # NumPy lacks these types

    if tensor.dtype == "BF16":
        return torch.from_numpy(tensor.data.view(np.int16)).view(torch.bfloat16)
    kind = torch.float8_e4m3fn if tensor.dtype == "F8_E4M3" else torch.float8_e5m2
    return torch.from_numpy(tensor.data).view(kind)


def _from_torch(value: Any, name: str) -> Tensor:
    import torch  # only when the caller already uses it

    tensor = value.detach().cpu()
    as_bits = {
        torch.bfloat16: ("BF16", torch.int16, "<u2"),
        torch.float8_e4m3fn: ("F8_E4M3", torch.uint8, "|u1"),
        torch.float8_e5m2: ("F8_E5M2", torch.uint8, "|u1"),
    }
    if tensor.dtype in as_bits:
        dtype, viewed_as, held_as = as_bits[tensor.dtype]
        return Tensor(dtype=dtype, data=tensor.contiguous().view(viewed_as).numpy().view(held_as))
    try:
        return as_tensor(tensor.numpy(), name)
    except TypeError as error:
        raise UnsupportedInput(f"{name}: tensors of {value.dtype} cannot be read: {error}") from error


def _in_memory(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> TensorSource:
    size_bytes = sum(tensor.size_bytes for tensor in tensors.values())
    return TensorSource(tensors, metadata, size_bytes=size_bytes, name=name)


def _cache_tensors(cache: Any) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number, layer in enumerate(cache.layers):
        for label, part in (("key", "keys"), ("value", "values")):
            value = getattr(layer, part, None)
            name = f"layers.{number}.{label}"
            if value is None:
                raise UnsupportedInput(
                    f"layer {number} of the {type(cache).__name__} is a {type(layer).__name__} without {part}; "
                    "only layers of keys and values can be stored"
                )
            tensor = as_tensor(value, name)
            if tensor.data.ndim != 4 or tensor.shape[0] != 1:
                raise UnsupportedInput(
                    f"{name} has the shape {list(tensor.shape)}; expected [1, kv_heads, tokens, head_dim]: "
                    "store the sequences of a batch one by one"
                )
            tensors[name] = Tensor(dtype=tensor.dtype, data=tensor.data[0])
    return tensors


def _open_path(path: Path, limits: Limits) -> TensorSource:
    if is_stream_path(path):
        with path.open("rb") as stream:
            return _from_bytes(_read_all(stream, limits), str(path), limits)
    try:
        size = path.stat().st_size
        limits.check("max_output_bytes", size, str(path))
        with path.open("rb") as stream:
            if size == 0:
                raise CorruptFile(f"{path} is empty")
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    if mapped[: len(_NPY_MAGIC)] == _NPY_MAGIC:
        return TensorSource(
            {ARRAY: _read_npy(np.memmap(path, mode="r"), str(path))}, {}, size_bytes=size, name=str(path)
        )
    tensors, metadata = read_safetensors(mapped, name=str(path), limits=limits)
    return TensorSource(tensors, metadata, size_bytes=size, name=str(path))


def _from_bytes(data: bytes, name: str, limits: Limits) -> TensorSource:
    if data.startswith(_NPY_MAGIC):
        tensor = _read_npy(np.frombuffer(data, np.uint8), name)
        return TensorSource({ARRAY: tensor}, {}, size_bytes=len(data), name=name)
    tensors, metadata = read_safetensors(data, name=name, limits=limits)
    return TensorSource(tensors, metadata, size_bytes=len(data), name=name)


def _read_npy(data: np.ndarray[Any, Any], name: str) -> Tensor:
    head = io.BytesIO(data[: 1 << 16].tobytes())
    try:
        version = np.lib.format.read_magic(head)
        read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head)
    except ValueError as error:
        raise CorruptFile(f"{name}: not a readable npy file: {error}") from error
    if dtype.hasobject:
        raise UnsupportedInput(f"{name}: npy files of Python objects are pickles and are never read")
    kind = dtype_name(dtype)
    body = data[head.tell() :]
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if count * dtype.itemsize != body.nbytes:
        raise CorruptFile(f"{name}: shape {shape} of {dtype} does not fit its {body.nbytes:,} bytes of data")
    array = body.view(dtype).reshape(shape, order="F" if fortran else "C")
    return Tensor(dtype=kind, data=array.astype(dtype.newbyteorder("<"), copy=False))


def _read_all(stream: BinaryIO, limits: Limits) -> bytes:
    pieces = []
    total = 0
    while piece := stream.read(_READ_PIECE):
        total += len(piece)
        limits.check("max_memory_bytes", total, "the input stream")
        pieces.append(piece)
    return b"".join(pieces)
