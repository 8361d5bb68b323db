"""Coding one tile: levels from coarse to fine, two stages each, by network, circuit, adaptive maps and coder.

Encoder and decoder take the same steps; what differs is a :class:`_BlockCoder`. Blocks of a stage are split into
bands of rows, one per lane; a lane has its own coder stream and its own maps, so lanes run on different cores.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .adaptive_map import coding_tables, new_maps
from .ans import AnsStack, encode_operations
from .block_kernels import decode_blocks, encode_blocks
from .colour import PLANE_RANGES
from .integer_network import IntegerNetwork, IntegerStage
from .online_regression import carry_over, new_regression
from .pyramid import base_predictions_a, base_predictions_b
from .pyramid_network import PLANES

__all__ = ["EncodedTile", "decode_tile", "encode_tile", "level_count", "level_size"]

_COARSEST_SIDE = 4


def level_count(height: int, width: int) -> int:
    """Number of times a tile is halved: until no side is longer than four pixels."""
    return max(0, math.ceil(math.log2(max(height, width) / _COARSEST_SIDE)))


def level_size(length: int, level: int) -> int:
    """Length of a side after ``level`` halvings."""
    return -(-length // (1 << level))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTile:
    """``lanes`` are coder streams; ``bits`` is the ideal code length."""

    lanes: tuple[bytes, ...]
    bits: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One stage's blocks on a grid of ``rows`` x ``columns``, block by block: arrays ``[blocks, ...]``.

    ``known`` ``[channels, rows + 2, columns + 2]`` are the planes a block is predicted from, their edges repeated.
    """

    rows: int
    columns: int
    parameters: NDArray[np.int32]
    means: NDArray[np.int64]
    present: NDArray[np.bool_]
    ranges: NDArray[np.int64]
    known: NDArray[np.int32]
    base: NDArray[np.int32]

    def band(self, values: NDArray[np.int32], rows: slice) -> tuple[NDArray[Any], ...]:
        """What kernels need of some rows, with ``values`` of all blocks."""
        blocks = slice(rows.start * self.columns, rows.stop * self.columns)
        return (
            self.parameters[blocks],
            self.means[blocks],
            values[blocks],
            self.present[blocks],
            self.ranges,
            self.known,
            self.base[blocks],
        )


class _Lane:
    """What adapts while a lane is coded: maps and regression of both stages."""

    def __init__(self, *, regression: bool) -> None:
        self.maps = [new_maps(PLANES * grids) for grids in (1, 2)]
        self.regressions = [new_regression(PLANES * grids, PLANES * grids, active=regression) for grids in (1, 2)]


class _BlockCoder:
    """Codes the blocks of a stage, band by band; also the values of the coarsest grid."""

    def __init__(self, lanes: int, pool: ThreadPoolExecutor, *, regression: bool) -> None:
        self._pool = pool
        self._lanes = [_Lane(regression=regression) for _ in range(lanes)]
        self._jobs: list[Future[None] | None] = [None] * lanes

    def code(self, index: int, stage: _Stage, values: NDArray[np.int32]) -> None:
        """Code ``values`` ``[blocks, variables]``, filling what is not known yet."""
        lanes = len(self._lanes)
        edges = [stage.rows * lane // lanes for lane in range(lanes + 1)]
        for lane in range(lanes):
            rows = slice(edges[lane], edges[lane + 1])
            self._jobs[lane] = self._pool.submit(self._after, self._jobs[lane], lane, index, stage, values, rows)

    def _after(
        self,
        earlier: Future[None] | None,
        lane: int,
        index: int,
        stage: _Stage,
        values: NDArray[np.int32],
        rows: slice,
    ) -> None:
        """Code a band once the lane's band before is done; the pool starts jobs in order, so that one has begun."""
        if earlier is not None:
            earlier.result()
        carry_over(self._lanes[lane].regressions[index])
        self._code_band(lane, index, stage, stage.band(values, rows), rows)

    def wait(self) -> None:
        """Until everything is coded."""
        for job in self._jobs:
            if job is not None:
                job.result()

    def _code_band(self, lane: int, index: int, stage: _Stage, band: tuple[NDArray[Any], ...], rows: slice) -> None:
        raise NotImplementedError

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        """Code values ``[count]`` of the coarsest grid, each equally likely within its range."""
        raise NotImplementedError


class _Encoder(_BlockCoder):
    def __init__(self, lanes: int, pool: ThreadPoolExecutor, *, regression: bool) -> None:
        super().__init__(lanes, pool, regression=regression)
        self._operations: list[list[NDArray[np.uint32]]] = [[] for _ in range(lanes)]

    def _code_band(self, lane: int, index: int, stage: _Stage, band: tuple[NDArray[Any], ...], rows: slice) -> None:
        state = self._lanes[lane]
        present = band[3]
        operations = np.empty((2, int(present.sum())), np.uint32)
        place = (rows.start, stage.columns)
        encode_blocks(band, place, coding_tables(), state.maps[index], state.regressions[index], operations)
        self._operations[lane].append(operations)

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        slots = _uniform_slots(values.astype(np.int64), ranges)
        self._operations[0].append(np.stack(slots).astype(np.uint32))

    def finish(self) -> tuple[tuple[bytes, ...], float]:
        """The lanes and their ideal code length in bits."""
        self.wait()
        lanes, bits = [], 0.0
        for parts in self._operations:
            # a lane without rows at any level has no symbols
            starts, frequencies = np.concatenate([*parts, np.empty((2, 0), np.uint32)], axis=1)
            bits += float((24.0 - np.log2(frequencies)).sum())
            lanes.append(encode_operations(starts, frequencies))
        return tuple(lanes), bits


class _Decoder(_BlockCoder):
    def __init__(self, lanes: Sequence[bytes], pool: ThreadPoolExecutor, *, regression: bool) -> None:
        super().__init__(len(lanes), pool, regression=regression)
        self._stacks = [AnsStack(lane) for lane in lanes]

    def code(self, index: int, stage: _Stage, values: NDArray[np.int32]) -> None:
        super().code(index, stage, values)
        self.wait()

    def _code_band(self, lane: int, index: int, stage: _Stage, band: tuple[NDArray[Any], ...], rows: slice) -> None:
        state, stack = self._lanes[lane], self._stacks[lane]
        place = (rows.start, stage.columns)
        decode_blocks(
            band, place, coding_tables(), state.maps[index], state.regressions[index], stack.words, stack.state
        )

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        stack = self._stacks[0]
        for position, (low, high) in enumerate(ranges):
            values[position] = stack.take_uniform(int(low), int(high))

    def finish(self) -> None:
        """Raise :class:`CorruptFile` unless every lane ends where its symbols do."""
        for stack in self._stacks:
            stack.check_exhausted()


def encode_tile(
    planes: NDArray[np.int16], network: IntegerNetwork, *, lanes: int, regression: bool, pool: ThreadPoolExecutor
) -> EncodedTile:
    """Encode YCoCg-R ``planes`` ``[3, height, width]``, or grey ``[1, height, width]``."""
    coder = _Encoder(lanes, pool, regression=regression)
    known = _levels(network, planes.shape, torch.from_numpy(planes.astype(np.float32)), coder, 0)
    deque(known, maxlen=0)
    streams, bits = coder.finish()
    return EncodedTile(lanes=streams, bits=bits)


def decode_tile(
    lanes: Sequence[bytes],
    shape: tuple[int, int, int],
    network: IntegerNetwork,
    *,
    level: int,
    regression: bool,
    pool: ThreadPoolExecutor,
) -> NDArray[np.int16]:
    """Decode planes of a tile of ``shape`` (planes, height, width), down to ``level`` (0 is full size)."""
    coder = _Decoder(lanes, pool, regression=regression)
    finest = deque(_levels(network, shape, None, coder, level), maxlen=1).pop()
    if level == 0:
        coder.finish()
    return finest[0].to(torch.int16).numpy()


@torch.no_grad()
def _levels(
    network: IntegerNetwork, shape: tuple[int, ...], known: torch.Tensor | None, coder: _BlockCoder, last: int
) -> Iterator[torch.Tensor]:
    """Code every level down to ``last``; yield the planes of each, ``[1, planes, height, width]``.

    ``known`` are all planes when encoding, None when decoding.
    """
    count, height, width = shape
    levels = level_count(height, width)
    rows, columns = level_size(height, levels), level_size(width, levels)
    ranges = np.repeat(np.array(PLANE_RANGES[:count], np.int64), rows * columns, axis=0)
    if known is None:
        flat = np.zeros(count * rows * columns, np.int32)
    else:
        step = 1 << levels
        flat = np.ascontiguousarray(known[:, ::step, ::step].numpy().astype(np.int32).reshape(-1))
    coder.code_uniform(flat, ranges)
    grid = torch.from_numpy(flat.reshape(1, count, rows, columns).astype(np.float32))
    yield grid
    coarser = None
    for level in range(levels - 1, last - 1, -1):
        size = (level_size(height, level), level_size(width, level))
        target = None if known is None else known[None, :, :: 1 << level, :: 1 << level]
        grid, coarser = _level(network.level(level), size, grid, target, coarser, coder)
        yield grid


def _level(
    stages: tuple[IntegerStage, IntegerStage, int],
    size: tuple[int, int],
    coarse: torch.Tensor,
    target: torch.Tensor | None,
    coarser: torch.Tensor | None,
    coder: _BlockCoder,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Code one level whose coarse grid is known; return its planes and the features for the next level."""
    stage_a, stage_b, scale = stages
    count = coarse.shape[1]
    full = _with_chroma(coarse)
    rows, columns = coarse.shape[2:]
    below, beside = size[0] // 2, size[1] // 2
    base = base_predictions_a(full)
    # a grid may lack its last row or column; base predictions stand in for what does not exist
    diagonal = _placed(base, None if target is None else target[:, :, 1::2, 1::2])
    features_a, means = stage_a.features(full, base, scale, coarser, None)
    present = _presence(rows, columns, [(below, beside)], count)
    stage = _stage(full, base, stage_a.parameters(features_a), means, present)
    diagonal = _coded(coder, 0, stage, diagonal)
    base = base_predictions_b(full, diagonal)
    sides = base
    if target is not None:
        right = _placed(base[:, :PLANES], target[:, :, ::2, 1::2])
        under = _placed(base[:, PLANES:], target[:, :, 1::2, ::2])
        sides = torch.cat([right, under], 1)
    known = torch.cat([full, diagonal], 1)
    features_b, means = stage_b.features(known, base, scale, coarser, features_a)
    present = _presence(rows, columns, [(rows, beside), (below, columns)], count)
    stage = _stage(known, base, stage_b.parameters(features_b), means, present)
    sides = _coded(coder, 1, stage, sides)
    planes = coarse.new_empty(1, count, *size)
    planes[:, :, ::2, ::2] = coarse
    planes[:, :, 1::2, 1::2] = diagonal[:, :count, :below, :beside]
    planes[:, :, ::2, 1::2] = sides[:, :count, :, :beside]
    planes[:, :, 1::2, ::2] = sides[:, PLANES : PLANES + count, :below]
    return planes, features_b


def _stage(
    known: torch.Tensor,
    base: torch.Tensor,
    parameters: torch.Tensor,
    means: torch.Tensor,
    present: NDArray[np.bool_],
) -> _Stage:
    grids = base.shape[1] // PLANES
    edged = functional.pad(known, (1, 1, 1, 1), mode="replicate")
    return _Stage(
        rows=base.shape[2],
        columns=base.shape[3],
        parameters=parameters.numpy(),
        means=_flat(means).numpy(),
        present=present,
        ranges=np.array(PLANE_RANGES * grids, np.int64),
        known=edged[0].to(torch.int32).numpy(),
        base=_flat(base[:, :PLANES]).to(torch.int32).numpy(),
    )


def _coded(coder: _BlockCoder, index: int, stage: _Stage, values: torch.Tensor) -> torch.Tensor:
    """Code ``values`` ``[1, variables, rows, columns]``; the same when encoding, what was decoded when decoding."""
    flat = _flat(values).to(torch.int32).numpy()
    coder.code(index, stage, flat)
    grid = torch.from_numpy(flat.astype(np.float32)).view(1, stage.rows, stage.columns, -1)
    return grid.permute(0, 3, 1, 2).contiguous()


def _with_chroma(planes: torch.Tensor) -> torch.Tensor:
    """Grey planes with the chroma planes, all zero, that the network expects."""
    if planes.shape[1] == PLANES:
        return planes
    return torch.cat([planes, torch.zeros_like(planes), torch.zeros_like(planes)], 1)


def _placed(base: torch.Tensor, values: torch.Tensor | None) -> torch.Tensor:
    """``values`` in the top left corner of ``base``."""
    if values is None:
        return base
    result = base.clone()
    result[:, : values.shape[1], : values.shape[2], : values.shape[3]] = values
    if values.shape[1] < PLANES:
        result[:, values.shape[1] :] = 0
    return result


def _presence(rows: int, columns: int, extents: Sequence[tuple[int, int]], count: int) -> NDArray[np.bool_]:
    """Which symbols of each block exist: ``[blocks, variables]``."""
    present = np.zeros((rows, columns, len(extents), PLANES), np.bool_)
    for number, (height, width) in enumerate(extents):
        present[:height, :width, number, :count] = True
    return present.reshape(rows * columns, -1)


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """``[1, n, rows, columns]`` as contiguous ``[blocks, n]``."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).contiguous()


def _uniform_slots(values: NDArray[np.int64], ranges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts = ranges[:, 1] - ranges[:, 0] + 1
    offsets = values - ranges[:, 0]
    starts = (offsets << 24) // counts
    return starts, ((offsets + 1) << 24) // counts - starts
