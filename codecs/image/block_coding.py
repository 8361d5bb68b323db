"""Coding the blocks of stages in bands of rows, one band a lane, by :mod:`.block_kernels`.

A lane has its own coder stream, maps and regression, so lanes run on different cores; what differs between encoder and
decoder is a :class:`BlockCoder`. Several pictures of one size are coded together, each in lanes of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adaptive_map import carry_over as carry_over_maps
from .adaptive_map import coding_tables, new_maps
from .ans import AnsStack, encode_operations
from .block_kernels import decode_blocks, encode_blocks
from .integer_network import IntegerNetwork
from .online_regression import carry_over, new_regression
from .pyramid_network import PLANES

__all__ = ["BlockCoder", "BlockDecoder", "BlockEncoder", "StageBlocks", "Tools"]

_LARGE_AREA = 1 << 17
"""Pixels from which on a tile teaches enough to regress means on the network's features too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBlocks:
    """One stage's blocks on a grid of ``rows`` x ``columns``, picture by picture: arrays ``[blocks, ...]``.

    ``known`` ``[pictures, channels, rows + 2, columns + 2]`` are the planes a block is predicted from, their edges
    repeated; ``present`` is the same for every picture.
    """

    rows: int
    columns: int
    parameters: NDArray[np.int32]
    means: NDArray[np.int64]
    present: NDArray[np.bool_]
    ranges: NDArray[np.int64]
    known: NDArray[np.int32]
    hidden: NDArray[np.float32]
    base: NDArray[np.int32]

    def band(self, values: NDArray[np.int32], picture: int, rows: slice) -> tuple[NDArray[Any], ...]:
        """What kernels need of some rows of a picture, with ``values`` of all blocks."""
        within = slice(rows.start * self.columns, rows.stop * self.columns)
        before = picture * self.rows * self.columns
        blocks = slice(before + within.start, before + within.stop)
        return (
            self.parameters[blocks],
            self.means[blocks],
            values[blocks],
            self.present[within],
            self.ranges,
            self.known[picture],
            self.hidden[blocks],
            self.base[blocks],
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """Whether means are regressed, on how many of the network's features, and whether maps learn."""

    regression: bool
    hidden: int
    maps: bool

    @classmethod
    def for_tile(cls, shape: tuple[int, ...], network: IntegerNetwork, *, regression: bool, maps: bool = True) -> Tools:
        large = shape[1] * shape[2] >= _LARGE_AREA
        return cls(regression, network.shape.channels if large else 0, maps)


class _Lane:
    """What adapts while a lane is coded: maps and regression of both stages."""

    def __init__(self, tools: Tools) -> None:
        self.maps = [new_maps(PLANES * grids, learning=tools.maps) for grids in (1, 2)]
        self.regressions = [
            new_regression(PLANES * grids, PLANES * grids, hidden=tools.hidden, active=tools.regression)
            for grids in (1, 2)
        ]


class BlockCoder:
    """Codes the blocks of a stage, band by band; also the values of the coarsest grid."""

    def __init__(self, pictures: int, lanes: int, pool: ThreadPoolExecutor, tools: Tools) -> None:
        self._pool = pool
        self._lanes_each = lanes
        self._lanes = [_Lane(tools) for _ in range(pictures * lanes)]
        self._jobs: list[Future[None] | None] = [None] * len(self._lanes)

    def code(self, index: int, stage: StageBlocks, values: NDArray[np.int32]) -> None:
        """Code ``values`` ``[blocks, variables]``, filling what is not known yet."""
        for lane in range(len(self._lanes)):
            picture, number = divmod(lane, self._lanes_each)
            first, last = (stage.rows * edge // self._lanes_each for edge in (number, number + 1))
            band = stage.band(values, picture, slice(first, last))
            job = self._pool.submit(self._after, self._jobs[lane], lane, index, band, (first, stage.columns))
            self._jobs[lane] = job

    def _after(
        self,
        earlier: Future[None] | None,
        lane: int,
        index: int,
        band: tuple[NDArray[Any], ...],
        place: tuple[int, int],
    ) -> None:
        """Code a band once the lane's band before is done; the pool starts jobs in order, so that one has begun."""
        if earlier is not None:
            earlier.result()
        state = self._lanes[lane]
        carry_over(state.regressions[index])
        carry_over_maps(state.maps[index])
        self._code_band(lane, index, band, place)

    def wait(self) -> None:
        """Until everything is coded."""
        for job in self._jobs:
            if job is not None:
                job.result()

    def _code_band(self, lane: int, index: int, band: tuple[NDArray[Any], ...], place: tuple[int, int]) -> None:
        raise NotImplementedError

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        """Code values ``[pictures, count]`` of the coarsest grids, each equally likely within its range."""
        raise NotImplementedError


class BlockEncoder(BlockCoder):
    def __init__(self, pictures: int, lanes: int, pool: ThreadPoolExecutor, tools: Tools) -> None:
        super().__init__(pictures, lanes, pool, tools)
        self._operations: list[list[NDArray[np.uint32]]] = [[] for _ in self._lanes]

    def _code_band(self, lane: int, index: int, band: tuple[NDArray[Any], ...], place: tuple[int, int]) -> None:
        state = self._lanes[lane]
        present = band[3]
        operations = np.empty((2, int(present.sum())), np.uint32)
        encode_blocks(band, place, coding_tables(), state.maps[index], state.regressions[index], operations)
        self._operations[lane].append(operations)

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        for picture, own in enumerate(values):
            slots = _uniform_slots(own.astype(np.int64), ranges)
            self._operations[picture * self._lanes_each].append(np.stack(slots).astype(np.uint32))

    def finish(self) -> list[tuple[bytes, float]]:
        """Every lane, picture by picture, and its ideal code length in bits."""
        self.wait()
        finished = []
        for parts in self._operations:
            # a lane without rows at any level has no symbols
            starts, frequencies = np.concatenate([*parts, np.empty((2, 0), np.uint32)], axis=1)
            bits = float((24.0 - np.log2(frequencies)).sum())
            finished.append((encode_operations(starts, frequencies), bits))
        return finished


class BlockDecoder(BlockCoder):
    def __init__(self, lanes: Sequence[bytes], pool: ThreadPoolExecutor, tools: Tools) -> None:
        super().__init__(1, len(lanes), pool, tools)
        self._stacks = [AnsStack(lane) for lane in lanes]

    def code(self, index: int, stage: StageBlocks, values: NDArray[np.int32]) -> None:
        super().code(index, stage, values)
        self.wait()

    def _code_band(self, lane: int, index: int, band: tuple[NDArray[Any], ...], place: tuple[int, int]) -> None:
        state, stack = self._lanes[lane], self._stacks[lane]
        decode_blocks(
            band, place, coding_tables(), state.maps[index], state.regressions[index], stack.words, stack.state
        )

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        stack = self._stacks[0]
        for position, (low, high) in enumerate(ranges):
            values[0, position] = stack.take_uniform(int(low), int(high))

    def finish(self) -> None:
        """Raise :class:`CorruptFile` unless every lane ends where its symbols do."""
        for stack in self._stacks:
            stack.check_exhausted()


def _uniform_slots(values: NDArray[np.int64], ranges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts = ranges[:, 1] - ranges[:, 0] + 1
    offsets = values - ranges[:, 0]
    starts = (offsets << 24) // counts
    return starts, ((offsets + 1) << 24) // counts - starts
