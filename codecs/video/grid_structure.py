"""The shape of a ``gridnerv`` network: its latent grids, and the stages that turn them into pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile, InvalidParameter
from .hnerv_structure import positive_integers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.canonical_json import JsonValue

__all__ = ["Grid", "GridStructure", "key_weights", "parse_grids"]

_FIELDS = {"blocks", "columns", "expansion", "grids", "rows", "widths"}
_MAX_GRIDS = 16
_MAX_WIDTH = 1 << 12
_MAX_STRIDE = 128
_MAX_PERIOD = 1 << 16
BLOCK_KERNEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Latents of ``channels`` channels, one cell per ``stride`` x ``stride`` pixels, one key per ``period`` frames.

    Frames between two keys use both, weighted linearly. Period 0 means one key for all frames.
    """

    stride: int
    channels: int
    period: int

    def keys(self, frames: int) -> int:
        """How many keys ``frames`` frames need."""
        return 1 if self.period == 0 else -(-(frames - 1) // self.period) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GridStructure:
    """Grids from coarse to fine, and per distinct stride (a *level*) a width and a number of residual blocks.

    ``rows`` x ``columns`` are the cells of the coarsest level; ``expansion`` is how many times wider a block is inside.
    """

    rows: int
    columns: int
    grids: tuple[Grid, ...]
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    expansion: int

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of each level, falling."""
        return tuple(dict.fromkeys(grid.stride for grid in self.grids))

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of the pictures the network makes, padding included."""
        return self.rows * self.strides[0], self.columns * self.strides[0]

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Latent channels of each level."""
        return tuple(sum(grid.channels for grid in self.grids if grid.stride == stride) for stride in self.strides)

    def cells(self, stride: int) -> tuple[int, int]:
        """Rows and columns of a grid with ``stride``."""
        height, width = self.picture
        return height // stride, width // stride

    def grid_shape(self, grid: Grid, frames: int) -> tuple[int, int, int, int]:
        """[keys, channels, rows, columns]."""
        return (grid.keys(frames), grid.channels, *self.cells(grid.stride))

    def latents(self, frames: int) -> int:
        """Number of latents of a segment of ``frames`` frames."""
        return sum(math.prod(self.grid_shape(grid, frames)) for grid in self.grids)

    @property
    def decoder_parameters(self) -> int:
        """Number of weights and biases of the network."""
        count = 0
        levels = zip(self.level_channels, self.widths, self.blocks, strict=True)
        for channels, width, blocks in levels:
            inner = width * self.expansion
            block = width * (BLOCK_KERNEL**2 + 1) + (width + 1) * inner + (inner + 1) * width
            count += (channels + 1) * width + blocks * block
        count += sum((before + 1) * after for before, after in pairwise(self.widths))
        return count + (self.widths[-1] + 1) * 3 * self.strides[-1] ** 2

    @property
    def macs_per_frame(self) -> int:
        """Multiplications of the network for one frame, interpolation not counted."""
        total = 0
        for number, stride in enumerate(self.strides):
            rows, columns = self.cells(stride)
            width, channels = self.widths[number], self.level_channels[number]
            cell = channels * width + self.blocks[number] * width * (BLOCK_KERNEL**2 + 2 * width * self.expansion)
            if number + 1 < len(self.widths):
                cell += width * self.widths[number + 1]
            else:
                cell += width * 3 * stride**2
            total += rows * columns * cell
        return total

    @property
    def reach(self) -> int:
        """Pixels around a region that can influence it, rounded up to cells of the coarsest level."""
        distance = 0
        for stride, blocks in zip(self.strides, self.blocks, strict=True):
            distance += stride * (blocks * (BLOCK_KERNEL // 2) + 1)  # and one cell for bilinear interpolation
        return -(-distance // self.strides[0]) * self.strides[0]

    def as_json(self) -> dict[str, JsonValue]:
        """For a file header."""
        return {
            "blocks": list(self.blocks),
            "columns": self.columns,
            "expansion": self.expansion,
            "grids": [[grid.stride, grid.channels, grid.period] for grid in self.grids],
            "rows": self.rows,
            "widths": list(self.widths),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> GridStructure:
        """Parse what :meth:`as_json` wrote; raises :class:`CorruptFile` for anything else."""
        if not isinstance(value, dict) or value.keys() != _FIELDS:
            raise CorruptFile("header: the network's structure has missing or unknown fields")
        rows = value["grids"]
        if not isinstance(rows, list) or not 1 <= len(rows) <= _MAX_GRIDS:
            raise CorruptFile(f"header: {rows!r} is not a list of 1 to {_MAX_GRIDS} grids")
        triples = [positive_integers(row, 3, 3, _MAX_PERIOD, least_value=0) for row in rows]
        grids = tuple(Grid(stride=stride, channels=channels, period=period) for stride, channels, period in triples)
        problem = _problem(grids)
        if problem is not None:
            raise CorruptFile(f"header: {problem}")
        levels = len({grid.stride for grid in grids})
        return cls(
            rows=positive_integers([value["rows"]], 1, 1, 1 << 16)[0],
            columns=positive_integers([value["columns"]], 1, 1, 1 << 16)[0],
            grids=grids,
            widths=positive_integers(value["widths"], levels, levels, _MAX_WIDTH),
            blocks=positive_integers(value["blocks"], levels, levels, 64, least_value=0),
            expansion=positive_integers([value["expansion"]], 1, 1, 16)[0],
        )

    def summary(self) -> Mapping[str, JsonValue]:
        """What a person wants to know about the network."""
        height, width = self.picture
        return {
            "grids": " ".join(f"{grid.stride}:{grid.channels}:{grid.period}" for grid in self.grids),
            "widths": " ".join(str(width) for width in self.widths),
            "decoder_parameters": self.decoder_parameters,
            "macs_per_pixel": self.macs_per_frame // (height * width),
        }


def key_weights(time: float, grid: Grid, frames: int) -> tuple[int, int, float]:
    """The two keys around ``time`` (in frames, 0 .. frames - 1) and the weight of the second."""
    if grid.period == 0:
        return 0, 0, 0.0
    first = int(time // grid.period)
    last = grid.keys(frames) - 1
    return min(first, last), min(first + 1, last), time / grid.period - first


def parse_grids(text: str) -> tuple[Grid, ...]:
    """``16:16:4,8:8:2`` -> grids of stride:channels:period, sorted from coarse to fine.

    Raises :class:`InvalidParameter`.
    """
    grids = []
    for part in text.split(","):
        numbers = part.split(":")
        if len(numbers) != 3 or not all(number.isdecimal() and len(number) < 6 for number in numbers):
            raise InvalidParameter(f"grids: {part!r} is not STRIDE:CHANNELS:PERIOD such as 16:16:4")
        stride, channels, period = (int(number) for number in numbers)
        grids.append(Grid(stride=stride, channels=channels, period=period))
    grids.sort(key=lambda grid: -grid.stride)
    problem = _problem(tuple(grids)) if len(grids) <= _MAX_GRIDS else f"there are more than {_MAX_GRIDS}"
    if problem is not None:
        raise InvalidParameter(f"grids={text}: {problem}")
    return tuple(grids)


def _problem(grids: tuple[Grid, ...]) -> str | None:
    """What is wrong with grids in this order, if anything."""
    for grid in grids:
        if not 1 <= grid.stride <= _MAX_STRIDE or not 1 <= grid.channels <= 256 or not 0 <= grid.period <= _MAX_PERIOD:
            return f"a grid of stride {grid.stride}, {grid.channels} channels and period {grid.period} is out of range"
    for before, after in pairwise(grids):
        if after.stride > before.stride or before.stride % after.stride:
            return f"stride {after.stride} after {before.stride}: each stride must divide the one before"
    if grids[-1].stride > 16:
        return f"the finest stride is {grids[-1].stride}, above 16"
    return None
