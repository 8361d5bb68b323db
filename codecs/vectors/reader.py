"""Random access to the vectors of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter
from .decoding import BlockIndex
from .ordered_threads import thread_count
from .search import Metric, Neighbours, search_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.chunk import IndexEntry
    from ...formats.reader import ContainerReader
    from ..run_context import RunContext

    Floats = NDArray[np.float32]

__all__ = ["VectorRows", "VectorsView"]


class VectorRows:
    """The vectors as an array [N, D] that decodes what is asked for, as float32.

    ``rows[1000:2000]``, ``rows[5]``, ``rows[-1]``, and any set of row numbers in any order, ``rows[[7, 3, 90_000]]``,
    read and decode only the blocks in which those rows are. Raises :class:`IndexError` beyond the last row.
    """

    def __init__(self, index: BlockIndex, threads: int) -> None:
        self._index = index
        self._threads = threads
        self._last: tuple[IndexEntry, Floats] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return self._index.rows, self._index.reader.header.dimensions

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Always float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return self._index.rows

    def __getitem__(self, rows: Any) -> Floats:
        if isinstance(rows, slice):
            return self._take(np.arange(*rows.indices(len(self))))
        if isinstance(rows, (int, np.integer)):
            only: Floats = self._take(self._checked(np.array([rows], np.int64)))[0]
            return only
        numbers = np.asarray(rows)
        if numbers.dtype == np.bool_ and numbers.shape == (len(self),):
            return self._take(np.flatnonzero(numbers))
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise InvalidParameter(f"rows are a slice, a number, a mask [N] or numbers [n], not {type(rows).__name__}")
        return self._take(self._checked(numbers.astype(np.int64)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """All vectors in order, block by block: the number of the first row, and float32 [n, D]."""
        for entry, rows in self._index.decoded(self._index.blocks, self._threads):
            yield entry.span[0], rows

    def _checked(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        wrong = (numbers < -len(self)) | (numbers >= len(self))
        if wrong.any():
            raise IndexError(f"row {int(numbers[wrong][0])} is not one of the {len(self)} rows")
        return np.where(numbers < 0, numbers + len(self), numbers)

    def _take(self, numbers: NDArray[np.int64]) -> Floats:
        result = np.empty((len(numbers), self.shape[1]), np.float32)
        places = np.searchsorted(self._index.starts, numbers, side="right") - 1
        needed = [self._index.blocks[place] for place in np.unique(places).tolist()]
        if self._last is not None and needed == [self._last[0]]:
            found: Iterator[tuple[IndexEntry, Floats]] = iter([self._last])
        else:
            found = self._index.decoded(needed, min(self._threads, max(1, len(needed))))
        for entry, rows in found:
            inside = np.flatnonzero((numbers >= entry.span[0]) & (numbers < entry.span[1]))
            result[inside] = rows[numbers[inside] - entry.span[0]]
            self._last = entry, rows
        return result


class VectorsView:
    """What :func:`codeckit.open` gives for a ``vectors`` file."""

    def __init__(self, source: ContainerReader, context: RunContext) -> None:
        self._index = BlockIndex(source)
        self._context = context
        self.vectors = VectorRows(self._index, thread_count(context.threads))

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return self.vectors.shape

    def search(self, queries: Any, *, k: int = 10, metric: Metric = "dot") -> Neighbours:
        """The ``min(k, N)`` nearest vectors of each of ``queries`` [Q, D]: scores float64 and rows int64, [Q, k].

        The same result as decoding everything and searching by brute force, whatever the number of threads, and on
        CPU and CUDA (the device of the reader), in the memory of a few blocks. ``metric`` is ``dot`` or ``cosine``,
        where the largest come first, or ``l2``, whose scores are squared distances, the smallest first.

        Raises :class:`InvalidParameter`, :class:`CorruptFile`, :class:`DeviceUnavailable`.
        """
        return search_blocks(
            self.vectors.blocks(),
            queries,
            dimensions=self.shape[1],
            total=self.shape[0],
            k=k,
            metric=metric,
            threads=thread_count(self._context.threads),
            device="cpu" if self._context.device == "auto" else self._context.torch_device(),
        )
