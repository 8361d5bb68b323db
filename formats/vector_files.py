"""Vectors in npy and safetensors files, read at their offsets: a map of the file would stay in memory."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .errors import CorruptFile, InvalidParameter, TruncatedFile, UnsupportedInput
from .safetensors_file import read_safetensors
from .vector_source import ELEMENTS, VectorSource, as_float32

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from .limits import Limits

__all__ = ["open_matrix"]

_NPY_MAGIC = b"\x93NUMPY"


def open_matrix(path: Path, item: str | None, limits: Limits) -> VectorSource:
    """The array of the npy file ``path``, or the tensor ``item`` (the only float matrix) of a safetensors file.

    Raises :class:`CorruptFile`, :class:`TruncatedFile`, :class:`UnsupportedInput`, :class:`InvalidParameter`.
    """
    try:
        stream = path.open("rb", buffering=0)
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    try:
        start = stream.read(len(_NPY_MAGIC))
        stream.seek(0)
        if start != _NPY_MAGIC:
            return _of_safetensors(stream, path, item, limits)
        if item is not None:
            raise InvalidParameter(f"{path} is an npy file and holds one array; leave out #{item}")
        return _of_npy(stream, path)
    except BaseException:
        stream.close()
        raise


def _of_npy(stream: Any, path: Path) -> VectorSource:
    try:
        version = np.lib.format.read_magic(stream)
        read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, EOFError) as error:
        raise CorruptFile(f"{path}: not a readable npy file: {error}") from error
    if dtype.hasobject:
        raise UnsupportedInput(f"{path}: npy files of Python objects are pickles and are never read")
    return _matrix(stream, path, tuple(shape), dtype, None, stream.tell(), fortran=fortran)


def _of_safetensors(stream: Any, path: Path, item: str | None, limits: Limits) -> VectorSource:
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        tensors, _ = read_safetensors(mapped, name=str(path), limits=limits)
        begin = np.frombuffer(mapped, np.uint8).ctypes.data
        rows = {
            key: (tensor.dtype, tensor.shape, tensor.data.dtype, tensor.data.ctypes.data - begin)
            for key, tensor in tensors.items()
        }
        tensors.clear()
    fitting = [key for key, row in rows.items() if len(row[1]) == 2 and row[0] in ELEMENTS]
    if item is None and len(fitting) != 1:
        found = ", ".join(f"{key} {row[0]} {list(row[1])}" for key, row in rows.items()) or "none"
        raise UnsupportedInput(f"{path}: expected one float tensor [N, D], or name it as FILE#NAME; tensors: {found}")
    name = fitting[0] if item is None else item
    if name not in rows:
        raise InvalidParameter(f"{path} has no tensor {name!r}; it has {', '.join(sorted(rows))}")
    element, shape, dtype, offset = rows[name]
    return _matrix(stream, path, shape, dtype, element, offset if all(shape) else 0, fortran=False)


def _matrix(
    stream: BinaryIO,
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    element: str | None,
    offset: int,
    *,
    fortran: bool,
) -> VectorSource:
    if len(shape) != 2:
        raise UnsupportedInput(f"{path}: shape {list(shape)}; vectors are [N, D]")
    found, _ = as_float32(np.empty((0, shape[1]), dtype), str(path), element)
    size = os.fstat(stream.fileno()).st_size
    if offset + shape[0] * shape[1] * dtype.itemsize > size:
        raise TruncatedFile(f"{path}: {size:,} bytes are too few for {shape[0]:,} rows of {shape[1]} {dtype}")
    # a column-major file has no rows that could be read at one place
    columns = np.memmap(path, dtype, "r", offset, shape, "F") if fortran and shape[0] else None

    def read(start: int, stop: int) -> NDArray[np.float32]:
        if columns is not None:
            return as_float32(np.asarray(columns[start:stop]), str(path), element)[1]
        rows = np.empty((stop - start, shape[1]), dtype)
        target = rows.reshape(-1).view(np.uint8)
        done = 0
        while done < len(target):
            count = os.preadv(stream.fileno(), [target[done:].data], offset + start * shape[1] * dtype.itemsize + done)
            if count == 0:
                raise TruncatedFile(f"{path}: the file ended while row {start:,} was read")
            done += count
        return as_float32(rows, str(path), element)[1]

    return VectorSource(
        dimensions=shape[1], element=found, rows=shape[0], name=str(path), read=read, close=stream.close
    )
