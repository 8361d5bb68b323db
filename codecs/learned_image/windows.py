"""Tiles of a picture, and the windows around them in which a network sees all that the tile depends on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TILE", "Grid", "Window"]

TILE = 512
"""Side of a tile in pixels."""


@dataclass(frozen=True, slots=True)
class Window:
    """A tile and its margin, in units of ``step`` pixels: rows and columns of either, half-open."""

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]
    """The tile's place in the whole."""
    kept: tuple[slice, slice]
    """The tile's place in the window."""

    def scaled(self, factor: int) -> Window:
        """The same window where everything is ``factor`` times as large."""
        return Window(*(_scaled(pair, factor) for pair in (self.outer, self.inner, self.kept)))


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a picture's tiles lie: its height and width filled up to multiples of ``multiple``."""

    height: int
    width: int
    multiple: int

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width that are coded."""
        return self.height + -self.height % self.multiple, self.width + -self.width % self.multiple

    def count(self) -> int:
        """The number of tiles."""
        return -(-self.height // TILE) * -(-self.width // TILE)

    def windows(self, step: int, margin: int) -> list[Window]:
        """The window of every tile, row by row, in units of ``step`` pixels, with ``margin`` units around it."""
        height, width = (side // step for side in self.padded)
        side = TILE // step
        return [
            _window((top, min(top + side, height), height), (left, min(left + side, width), width), margin)
            for top in range(0, height, side)
            for left in range(0, width, side)
        ]


def _window(rows: tuple[int, int, int], columns: tuple[int, int, int], margin: int) -> Window:
    pairs = []
    for start, stop, end in (rows, columns):
        low, high = max(0, start - margin), min(end, stop + margin)
        pairs.append((slice(low, high), slice(start, stop), slice(start - low, stop - low)))
    (outer_rows, inner_rows, kept_rows), (outer_columns, inner_columns, kept_columns) = pairs
    return Window((outer_rows, outer_columns), (inner_rows, inner_columns), (kept_rows, kept_columns))


def _scaled(pair: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    rows, columns = (slice(one.start * factor, one.stop * factor) for one in pair)
    return rows, columns
