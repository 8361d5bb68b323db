"""Rows of numbers out: npy and safetensors files written row block by row block, streams, and arrays in memory."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from .atomic_file import AtomicFile, output_errors
from .errors import InvalidParameter, OutputFailure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .limits import Limits

__all__ = ["TENSOR_NAME", "VectorSink", "memory_sink", "open_sink"]

TENSOR_NAME = "vectors"
# room for any number of rows, so that the header can be written again when their number is known
_HEADER_BYTES = 192


class VectorSink:
    """Takes float32 rows in order; nothing appears under the final name before :meth:`commit`.

    A path ending in ``.safetensors`` gets one tensor called ``vectors``; one in ``.npy`` or without a suffix, and a
    stream, npy. A stream that cannot seek needs the number of rows beforehand.
    """

    def __init__(self, target: Any, *, overwrite: bool, limits: Limits) -> None:
        self._limits = limits
        self._file: AtomicFile | None = None
        self._stream: BinaryIO | None = None
        self._blocks: list[NDArray[np.float32]] = []
        self._whole: NDArray[np.float32] | None = None
        self._make_header = _npy_header
        self._rows = 0
        self._promised: int | None = None
        self._dimensions: int | None = None
        self._committed = False
        self.size_bytes = 0
        if isinstance(target, (str, os.PathLike)):
            suffix = Path(target).suffix.lower()
            if suffix not in ("", ".npy", ".safetensors"):
                raise InvalidParameter(f"{target}: vectors are written as .npy or .safetensors, not as {suffix}")
            if suffix == ".safetensors":
                self._make_header = _safetensors_header
            self._file = AtomicFile(target, overwrite=overwrite)
        elif target is not None:
            self._stream = target

    def start(self, dimensions: int, rows: int | None) -> None:
        """Say what will come: rows of ``dimensions`` values, ``rows`` of them where that is known."""
        if self._dimensions is not None:
            raise ValueError("the sink was started already")
        self._dimensions, self._promised = dimensions, rows
        self._check(rows or 0)
        if self._stream is not None and rows is None:
            raise OutputFailure("a stream needs the number of rows first; decode a file that can seek, or to a path")
        if self._in_memory and rows is not None:
            self._whole = np.empty((rows, dimensions), np.float32)
        self._put(self._make_header(rows or 0, dimensions))

    def reserve(self, start: int, stop: int) -> NDArray[np.float32]:
        """Where to decode rows ``start`` to ``stop`` before they are handed to :meth:`write`."""
        if self._dimensions is None:
            raise ValueError("start the sink first")
        if self._whole is not None:
            return self._whole[start:stop]
        return np.empty((stop - start, self._dimensions), np.float32)

    def write(self, rows: NDArray[np.float32]) -> None:
        """Append float32 [n, dimensions]; rows in the order of :meth:`reserve`."""
        start = self._rows
        self._rows += len(rows)
        self._check(self._rows)
        if self._whole is not None:
            if rows.base is not self._whole:
                self._whole[start : self._rows] = rows
        elif self._in_memory:
            self._blocks.append(rows)
        else:
            self._put(np.ascontiguousarray(rows, "<f4").reshape(-1).data.cast("B"))

    def commit(self) -> None:
        """Make the output final."""
        if self._dimensions is None:
            raise ValueError("start the sink before committing it")
        if self._promised is not None and self._rows != self._promised:
            raise ValueError(f"{self._promised} rows were promised, {self._rows} written")
        if self._file is not None:
            with output_errors(self._file.path):
                self._file.stream.seek(0)
                self._file.stream.write(self._make_header(self._rows, self._dimensions))
            self._file.commit()
        elif self._stream is not None:
            with output_errors("output stream"):
                self._stream.flush()
        else:
            self.size_bytes = 4 * self._rows * self._dimensions
        self._committed = True

    @property
    def value(self) -> NDArray[np.float32]:
        """The rows as one float32 array [N, D]."""
        if not self._committed or self._dimensions is None:
            raise ValueError("commit the sink before taking its value")
        if self._whole is None:
            self._whole = np.concatenate([np.empty((0, self._dimensions), np.float32), *self._blocks])
            self._blocks.clear()
        return self._whole

    @property
    def _in_memory(self) -> bool:
        return self._file is None and self._stream is None

    def _check(self, rows: int) -> None:
        name = "max_memory_bytes" if self._in_memory else "max_output_bytes"
        self._limits.check(name, 4 * rows * (self._dimensions or 0), "the decoded vectors")

    def _put(self, data: bytes | memoryview) -> None:
        if self._in_memory:
            return
        if self._file is not None:
            self._file.write(data)
        elif self._stream is not None:
            with output_errors("output stream"):
                self._stream.write(data)
        self.size_bytes += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self._file is not None:
            self._file.__exit__(*details)


def open_sink(target: Any, *, overwrite: bool, limits: Limits) -> VectorSink:
    """A sink for a path or a writable binary stream."""
    if isinstance(target, (str, os.PathLike)) or hasattr(target, "write"):
        return VectorSink(target, overwrite=overwrite, limits=limits)
    raise OutputFailure(f"cannot write to a {type(target).__name__}; give a path or a binary file object")


def memory_sink(*, limits: Limits) -> VectorSink:
    """A sink whose ``value`` is float32 [N, D]."""
    return VectorSink(None, overwrite=False, limits=limits)


def _npy_header(rows: int, dimensions: int) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}"
    body = text.ljust(_HEADER_BYTES - 11).encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


def _safetensors_header(rows: int, dimensions: int) -> bytes:
    entry = {"dtype": "F32", "shape": [rows, dimensions], "data_offsets": [0, 4 * rows * dimensions]}
    text = json.dumps({TENSOR_NAME: entry}, separators=(",", ":")).encode().ljust(_HEADER_BYTES - 8)
    return struct.pack("<Q", len(text)) + text
