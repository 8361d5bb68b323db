"""Rows of numbers in: the ``vectors`` kind, for npy, safetensors, Parquet and Arrow files, arrays, and streams.

A source is a matrix [N, D] of float32, float16 or bfloat16 that is read batch by batch, so that it may be larger than
memory. ``file.safetensors#name`` and ``file.parquet#column`` name one tensor or column where a file holds several.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CorruptFile, InvalidParameter, UnsupportedInput
from .safetensors_file import Tensor
from .tensors import as_tensor
from .tensors import open_source as open_tensors
from .vector_files import open_matrix
from .vector_sinks import VectorSink, memory_sink, open_sink
from .vector_source import ELEMENTS, VectorSource, as_float32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .limits import Limits

__all__ = ["ELEMENTS", "VectorSink", "VectorSource", "memory_sink", "open_sink", "open_source"]

_PARQUET_MAGIC = b"PAR1"
_ARROW_MAGIC = b"ARROW1"


def open_source(value: Any, *, limits: Limits) -> VectorSource:
    """Open a path, the bytes of a file, a binary file object, an array or tensor [N, D], or an iterable of batches.

    Raises :class:`UnsupportedInput`, :class:`InvalidParameter`, :class:`CorruptFile`, :class:`LimitExceeded`.
    """
    if isinstance(value, (str, os.PathLike)):
        return _open_path(Path(value), limits)
    if isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "read"):
        with open_tensors(value, limits=limits) as source:
            return _of_tensors(source.tensors, None, source.name)
    if isinstance(value, dict):
        return _of_tensors({str(key): as_tensor(item, str(key)) for key, item in value.items()}, None, "dict")
    if hasattr(value, "shape"):
        return _of_array(value, type(value).__name__)
    if isinstance(value, Iterable):
        return _of_batches(iter(value))
    raise UnsupportedInput(f"expected vectors [N, D] or batches of them, got a {type(value).__name__}")


def _open_path(path: Path, limits: Limits) -> VectorSource:
    item = None
    if not path.exists() and "#" in path.name:
        name, _, item = path.name.rpartition("#")
        path = path.with_name(name)
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    if not start:
        raise CorruptFile(f"{path} is empty")
    if start.startswith((_PARQUET_MAGIC, _ARROW_MAGIC)):
        from .vector_columns import open_column  # needs an optional package

        return open_column(path, item, is_parquet=start.startswith(_PARQUET_MAGIC))
    return open_matrix(path, item, limits)


def _of_tensors(tensors: dict[str, Tensor], item: str | None, name: str) -> VectorSource:
    if item is not None:
        if item not in tensors:
            raise InvalidParameter(f"{name} has no tensor {item!r}; it has {', '.join(sorted(tensors))}")
        return _of_array(tensors[item], f"{name}#{item}")
    fitting = [key for key, tensor in tensors.items() if len(tensor.shape) == 2 and tensor.dtype in ELEMENTS]
    if len(fitting) != 1:
        found = ", ".join(f"{key} {tensor.dtype} {list(tensor.shape)}" for key, tensor in tensors.items()) or "none"
        raise UnsupportedInput(f"{name}: expected one float tensor [N, D], or name it as FILE#NAME; tensors: {found}")
    return _of_array(tensors[fitting[0]], name)


def _of_array(value: Any, name: str) -> VectorSource:
    shape = tuple(getattr(value, "shape", ()))
    if len(shape) != 2:
        raise UnsupportedInput(f"{name}: shape {list(shape)}; vectors are [N, D]")
    tensor = value if isinstance(value, Tensor) else None
    if tensor is not None:
        value = tensor.data
    element, _ = as_float32(value[:0], name, tensor.dtype if tensor else None)

    def read(start: int, stop: int) -> NDArray[np.float32]:
        return as_float32(value[start:stop], name, tensor.dtype if tensor else None)[1]

    return VectorSource(dimensions=int(shape[1]), element=element, rows=int(shape[0]), name=name, read=read)


def _of_batches(values: Iterator[Any]) -> VectorSource:
    first = next(values, None)
    if first is None:
        raise UnsupportedInput("the stream has no batch, so its number of dimensions is unknown; give an array [0, D]")
    opened = _of_array(first, "batch 0")

    def batches() -> Iterator[NDArray[np.float32]]:
        yield as_float32(first, "batch 0")[1]
        for number, value in enumerate(values, start=1):
            batch = _of_array(value, f"batch {number}")
            if batch.dimensions != opened.dimensions:
                raise UnsupportedInput(
                    f"batch {number} has {batch.dimensions} dimensions, the batches before it have {opened.dimensions}"
                )
            yield as_float32(value, f"batch {number}")[1]

    return VectorSource(
        dimensions=opened.dimensions, element=opened.element, rows=None, name="stream", stream=batches()
    )
