"""A matrix [N, D] that is read in batches of rows, from wherever it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .errors import UnsupportedInput
from .tensors import as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["ELEMENTS", "MAX_DIMENSIONS", "VectorSource", "as_float32", "from_bfloat16"]

ELEMENTS = ("F32", "F16", "BF16")
MAX_DIMENSIONS = 1 << 16


class VectorSource:
    """Rows of ``dimensions`` float32 values; ``rows`` is None for a stream whose length shows only at its end.

    ``element`` is the input's own type (``F32``, ``F16``, ``BF16``); ``size_bytes`` counts what has been read so far
    of a stream and is the size of the matrix otherwise. ``read(start, stop)`` gives float32 [stop - start, D].
    """

    def __init__(
        self,
        *,
        dimensions: int,
        element: str,
        rows: int | None,
        name: str,
        read: Callable[[int, int], NDArray[np.float32]] | None = None,
        stream: Iterator[NDArray[np.float32]] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise UnsupportedInput(f"{name}: {dimensions} dimensions; expected 1 to {MAX_DIMENSIONS:,}")
        self.dimensions = dimensions
        self.element = element
        self.rows = rows
        self.name = name
        self.size_bytes = 0 if rows is None else rows * self._row_bytes
        self._read = read
        self._stream = stream or iter(())
        self._close = close

    def batches(self, rows: int) -> Iterator[NDArray[np.float32]]:
        """Every row once, as finite float32 [n, dimensions] with n = ``rows`` but for the last batch.

        Raises :class:`UnsupportedInput` naming the first row that holds NaN or infinity, or the batch whose number
        of dimensions differs.
        """
        first = 0
        for batch in self._rebatched(rows):
            _refuse_infinite(batch, first, self.name)
            first += len(batch)
            yield batch

    def sample(self, rows: int, run: int = 16) -> NDArray[np.float32]:
        """At most ``rows`` rows: short runs spread evenly over what can be read anywhere, the first ones of a stream.

        The rows of a stream stay to be read by :meth:`batches`. Raises as that does.
        """
        if self._read is not None and self.rows is not None:
            if self.rows <= rows:
                found = self._read(0, self.rows)
                _refuse_infinite(found, 0, self.name)
                return found
            found = np.empty((rows, self.dimensions), np.float32)
            for place in range(0, rows, run):
                count = min(run, rows - place)
                start = place * (self.rows - count) // max(rows - count, 1)
                found[place : place + count] = self._read(start, start + count)
                _refuse_infinite(found[place : place + count], start, self.name)
            return found
        held: list[NDArray[np.float32]] = []
        while sum(map(len, held)) < rows and (batch := next(self._stream, None)) is not None:
            held.append(batch)
        self._stream = _chain(held, self._stream)
        first: NDArray[np.float32] = np.concatenate([np.empty((0, self.dimensions), np.float32), *held])[:rows]
        _refuse_infinite(first, 0, self.name)
        return first

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._close is not None:
            self._close()

    @property
    def _row_bytes(self) -> int:
        return self.dimensions * (4 if self.element == "F32" else 2)

    def _rebatched(self, rows: int) -> Iterator[NDArray[np.float32]]:
        if self._read is not None and self.rows is not None:
            for start in range(0, self.rows, rows):
                yield self._read(start, min(start + rows, self.rows))
            return
        held: list[NDArray[np.float32]] = []
        waiting = 0
        for batch in self._stream:
            if self.rows is None:
                self.size_bytes += len(batch) * self._row_bytes
            position = 0
            while position < len(batch):
                piece = batch[position : position + rows - waiting]
                held.append(piece)
                waiting += len(piece)
                position += len(piece)
                if waiting == rows:
                    yield held[0] if len(held) == 1 else np.concatenate(held)
                    held, waiting = [], 0
        if waiting:
            yield np.concatenate(held)


def as_float32(value: Any, name: str, element: str | None = None) -> tuple[str, NDArray[np.float32]]:
    """The element type of an array or torch tensor, and its values as C-ordered float32 in this machine's byte order.

    ``element`` BF16 says that a uint16 array holds the bits of bfloat16. Raises :class:`UnsupportedInput`.
    """
    if not isinstance(value, np.ndarray):
        if type(value).__module__.partition(".")[0] != "torch":
            raise UnsupportedInput(f"{name} is a {type(value).__name__}; expected a NumPy array or a torch tensor")
        tensor = as_tensor(value, name)
        value, element = tensor.data, tensor.dtype
    if value.dtype.name == "bfloat16":  # of the package ml_dtypes
        value, element = value.view(np.uint16), "BF16"
    if element == "BF16":
        return element, from_bfloat16(value)
    kind = {("f", 4): "F32", ("f", 2): "F16"}.get((value.dtype.kind, value.dtype.itemsize))
    if kind is None or element not in (None, kind):
        raise UnsupportedInput(f"{name}: elements of type {element or value.dtype}; convert them to float32 or float16")
    return kind, np.ascontiguousarray(value, np.float32)


def from_bfloat16(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Float32 of the uint16 ``bits`` of bfloat16."""
    return np.ascontiguousarray(bits.astype(np.uint32) << 16).view(np.float32)


def _refuse_infinite(batch: NDArray[np.float32], first: int, name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        # one fast pass: a sum is finite only if every value is; it may overflow, then the values are looked at
        if np.isfinite(np.add.reduce(batch, axis=None)):
            return
    wrong = np.argwhere(~np.isfinite(batch))
    if len(wrong):
        row, dimension = wrong[0].tolist()
        raise UnsupportedInput(
            f"{name}: row {first + row:,} holds {batch[row, dimension]} in dimension {dimension}; "
            "remove or repair that row"
        )


def _chain(held: list[NDArray[np.float32]], rest: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    yield from held
    yield from rest
