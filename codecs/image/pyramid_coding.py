"""Coding one tile: levels from coarse to fine, two stages each, by network, circuit, adaptive maps and coder.

Encoder and decoder take the same steps; what differs is a :class:`_BlockCoder`. Blocks of a stage are split into
bands of rows, one per lane; a lane has its own coder stream and its own maps, so lanes run on different cores.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .adaptive_map import MapState, new_maps
from .ans import AnsStack, encode_operations
from .block_kernels import decode_blocks, encode_blocks
from .colour import PLANE_RANGES
from .integer_network import IntegerNetwork, IntegerStage
from .least_squares import Correction, applied, fitted
from .logistic_tables import logistic_tables
from .pyramid import base_predictions_a, base_predictions_b
from .pyramid_network import PLANES, SCALES

__all__ = ["CORRECTED_LEVELS", "EncodedTile", "decode_tile", "encode_tile", "level_count", "level_size"]

CORRECTED_LEVELS = 2
"""Finest levels that may carry least-squares corrections."""

_COARSEST_SIDE = 4


def level_count(height: int, width: int) -> int:
    """Number of times a tile is halved: until no side is longer than four pixels."""
    return max(0, math.ceil(math.log2(max(height, width) / _COARSEST_SIDE)))


def level_size(length: int, level: int) -> int:
    """Length of a side after ``level`` halvings."""
    return -(-length // (1 << level))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTile:
    """``lanes`` are coder streams; ``corrections`` by (level, stage); ``bits`` is the ideal code length."""

    lanes: tuple[bytes, ...]
    corrections: dict[tuple[int, int], Correction]
    bits: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """One stage's blocks on a grid of ``rows`` x ``columns``, block by block: arrays ``[blocks, ...]``."""

    rows: int
    columns: int
    parameters: NDArray[np.int32]
    means: NDArray[np.int64]
    shifts: NDArray[np.int64]
    extra: NDArray[np.int64]
    present: NDArray[np.bool_]
    ranges: NDArray[np.int64]


class _BlockCoder:
    """Codes the blocks of a stage, band by band; also the values of the coarsest grid."""

    def __init__(self, lanes: int, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._maps = [(new_maps(PLANES), new_maps(2 * PLANES)) for _ in range(lanes)]
        tables = logistic_tables()
        self._tables = (tables.cdf, tables.weight, tables.inverse_scale, tables.variance)

    def code(self, index: int, stage: _Stage, values: NDArray[np.int32]) -> None:
        """Code ``values`` ``[blocks, variables]``, filling what is not known yet."""
        lanes = len(self._maps)
        edges = [stage.rows * lane // lanes * stage.columns for lane in range(lanes + 1)]
        jobs = [
            self._pool.submit(
                self._code_band, lane, stage, values, slice(edges[lane], edges[lane + 1]), self._maps[lane][index]
            )
            for lane in range(lanes)
        ]
        for job in jobs:
            job.result()

    def _code_band(self, lane: int, stage: _Stage, values: NDArray[np.int32], band: slice, maps: MapState) -> None:
        raise NotImplementedError

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        """Code values ``[count]`` of the coarsest grid, each equally likely within its range."""
        raise NotImplementedError


class _Encoder(_BlockCoder):
    def __init__(self, lanes: int, pool: ThreadPoolExecutor) -> None:
        super().__init__(lanes, pool)
        self._starts: list[list[NDArray[np.uint32]]] = [[] for _ in range(lanes)]
        self._frequencies: list[list[NDArray[np.uint32]]] = [[] for _ in range(lanes)]

    def _code_band(self, lane: int, stage: _Stage, values: NDArray[np.int32], band: slice, maps: MapState) -> None:
        count = int(stage.present[band].sum())
        starts, frequencies = np.empty((2, count), np.uint32)
        encode_blocks(
            stage.parameters[band],
            stage.means[band],
            stage.shifts[band],
            stage.extra,
            values[band],
            stage.present[band],
            stage.ranges,
            self._tables,
            maps,
            starts,
            frequencies,
        )
        self._starts[lane].append(starts)
        self._frequencies[lane].append(frequencies)

    def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
        starts, frequencies = _uniform_slots(values.astype(np.int64), ranges)
        self._starts[0].append(starts.astype(np.uint32))
        self._frequencies[0].append(frequencies.astype(np.uint32))

    def finish(self) -> tuple[tuple[bytes, ...], float]:
        """The lanes and their ideal code length in bits."""
        lanes, bits = [], 0.0
        for starts, frequencies in zip(self._starts, self._frequencies, strict=True):
            # a lane without rows at any level has no symbols
            all_frequencies = np.concatenate([*frequencies, np.empty(0, np.uint32)])
            bits += float((24.0 - np.log2(all_frequencies)).sum())
            lanes.append(encode_operations(np.concatenate([*starts, np.empty(0, np.uint32)]), all_frequencies))
        return tuple(lanes), bits


class _Decoder(_BlockCoder):
    def __init__(self, lanes: Sequence[bytes], pool: ThreadPoolExecutor) -> None:
        super().__init__(len(lanes), pool)
        self._stacks = [AnsStack(lane) for lane in lanes]

    def _code_band(self, lane: int, stage: _Stage, values: NDArray[np.int32], band: slice, maps: MapState) -> None:
        stack = self._stacks[lane]
        decode_blocks(
            stage.parameters[band],
            stage.means[band],
            stage.shifts[band],
            stage.extra,
            values[band],
            stage.present[band],
            stage.ranges,
            self._tables,
            maps,
            stack.words,
            stack.state,
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
    planes: NDArray[np.int16], network: IntegerNetwork, *, lanes: int, corrected: bool, pool: ThreadPoolExecutor
) -> EncodedTile:
    """Encode YCoCg-R ``planes`` ``[3, height, width]``, or grey ``[1, height, width]``."""
    coder = _Encoder(lanes, pool)
    corrections: dict[tuple[int, int], Correction] = {}

    def correction(key: tuple[int, int], fit: Callable[[], Correction]) -> Correction | None:
        if not corrected:
            return None
        corrections[key] = fit()
        return corrections[key]

    for _ in _levels(network, planes.shape, torch.from_numpy(planes.astype(np.float32)), coder, correction, 0):
        pass
    streams, bits = coder.finish()
    return EncodedTile(lanes=streams, corrections=corrections, bits=bits)


def decode_tile(
    lanes: Sequence[bytes],
    corrections: dict[tuple[int, int], Correction],
    shape: tuple[int, int, int],
    network: IntegerNetwork,
    *,
    level: int,
    pool: ThreadPoolExecutor,
) -> NDArray[np.int16]:
    """Decode planes of a tile of ``shape`` (planes, height, width), down to ``level`` (0 is full size)."""
    coder = _Decoder(lanes, pool)
    known = _levels(network, shape, None, coder, lambda key, _: corrections.get(key), level)
    finest = deque(known, maxlen=1).pop()
    if level == 0:
        coder.finish()
    return finest[0].to(torch.int16).numpy()


@torch.no_grad()
def _levels(
    network: IntegerNetwork,
    shape: tuple[int, ...],
    known: torch.Tensor | None,
    coder: _BlockCoder,
    correction: Callable[[tuple[int, int], Callable[[], Correction]], Correction | None],
    last: int,
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
        grid, coarser = _level(network, level, size, grid, target, coarser, coder, correction)
        yield grid


def _level(
    network: IntegerNetwork,
    level: int,
    size: tuple[int, int],
    coarse: torch.Tensor,
    target: torch.Tensor | None,
    coarser: torch.Tensor | None,
    coder: _BlockCoder,
    correction: Callable[[tuple[int, int], Callable[[], Correction]], Correction | None],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Code one level whose coarse grid is known; return its planes and the features for the next level."""
    count = coarse.shape[1]
    full = _with_chroma(coarse)
    rows, columns = coarse.shape[2:]
    below, beside = size[0] // 2, size[1] // 2
    base = base_predictions_a(full)
    scale = min(level, SCALES - 1)
    # a grid may lack its last row or column; base predictions stand in for what does not exist
    diagonal = _placed(base, None if target is None else target[:, :, 1::2, 1::2])
    stage_a, stage_b = network.stages

    def coded(
        index: int, stage: IntegerStage, inputs: torch.Tensor, base: torch.Tensor, values: torch.Tensor,
        extents: Sequence[tuple[int, int]], earlier: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        features, means = stage.features(inputs, base, scale, coarser, earlier)
        parameters = stage.parameters(features).numpy()
        flat_means = _flat(means).numpy()
        flat_values = _flat(values).to(torch.int32).numpy()
        present = _presence(rows, columns, extents, count)
        found = None
        if level < CORRECTED_LEVELS:
            found = correction(
                (level, index), lambda: fitted(inputs, base, parameters, flat_means, flat_values, present)
            )
        shifts, extra = applied(found, inputs, base)
        ranges = np.array(PLANE_RANGES * len(extents), np.int64)
        coder.code(
            index,
            _Stage(
                rows=rows, columns=columns, parameters=parameters, means=flat_means, shifts=shifts, extra=extra,
                present=present, ranges=ranges,
            ),
            flat_values,
        )  # fmt: skip
        grid = torch.from_numpy(flat_values.astype(np.float32)).view(1, rows, columns, -1).permute(0, 3, 1, 2)
        return grid.contiguous(), features

    diagonal, features_a = coded(0, stage_a, full, base, diagonal, [(below, beside)], None)
    base_b = base_predictions_b(full, diagonal)
    sides = base_b
    if target is not None:
        right = _placed(base_b[:, :PLANES], target[:, :, ::2, 1::2])
        under = _placed(base_b[:, PLANES:], target[:, :, 1::2, ::2])
        sides = torch.cat([right, under], 1)
    sides, features_b = coded(
        1, stage_b, torch.cat([full, diagonal], 1), base_b, sides, [(rows, beside), (below, columns)], features_a
    )
    planes = coarse.new_empty(1, count, *size)
    planes[:, :, ::2, ::2] = coarse
    planes[:, :, 1::2, 1::2] = diagonal[:, :count, :below, :beside]
    planes[:, :, ::2, 1::2] = sides[:, :count, :, :beside]
    planes[:, :, 1::2, ::2] = sides[:, PLANES : PLANES + count, :below]
    return planes, features_b


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
