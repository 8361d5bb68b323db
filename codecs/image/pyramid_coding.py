"""Coding one tile: levels from coarse to fine, two stages each, by network, circuit, adaptive maps and coder."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from .block_coding import BlockCoder, BlockDecoder, BlockEncoder, StageBlocks, Tools
from .colour import PLANE_RANGES
from .integer_network import IntegerNetwork, IntegerStage
from .pyramid import base_predictions_a, base_predictions_b
from .pyramid_network import PLANES

__all__ = [
    "EncodedTile",
    "code_planes",
    "decode_tile",
    "encode_tile",
    "encode_tiles",
    "level_count",
    "level_size",
]

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


def encode_tile(
    planes: NDArray[np.int16], network: IntegerNetwork, *, lanes: int, regression: bool, pool: ThreadPoolExecutor
) -> EncodedTile:
    """Encode YCoCg-R ``planes`` ``[3, height, width]``, or grey ``[1, height, width]``."""
    return encode_tiles(planes[None], network, lanes=lanes, regression=regression, pool=pool)[0]


def encode_tiles(
    planes: NDArray[np.int16], network: IntegerNetwork, *, lanes: int, regression: bool, pool: ThreadPoolExecutor
) -> list[EncodedTile]:
    """Encode pictures ``[pictures, 3 or 1, height, width]`` together; each comes out as it would alone."""
    tools = Tools.for_tile(planes.shape[1:], network, regression=regression)
    coder = BlockEncoder(len(planes), lanes, pool, tools)
    code_planes(planes, network, coder)
    finished = coder.finish()
    tiles = [finished[start : start + lanes] for start in range(0, len(finished), lanes)]
    return [EncodedTile(lanes=tuple(lane for lane, _ in tile), bits=sum(bits for _, bits in tile)) for tile in tiles]


def code_planes(planes: NDArray[np.int16], network: IntegerNetwork, coder: BlockCoder) -> None:
    """Hand every symbol of ``planes`` ``[pictures, 3 or 1, height, width]`` to ``coder``, which encodes."""
    known = torch.from_numpy(planes.astype(np.float32))
    deque(_levels(network, planes.shape, known, coder, 0), maxlen=0)


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
    coder = BlockDecoder(lanes, pool, Tools.for_tile(shape, network, regression=regression))
    finest = deque(_levels(network, (1, *shape), None, coder, level), maxlen=1).pop()
    if level == 0:
        coder.finish()
    return finest[0].to(torch.int16).numpy()


@torch.no_grad()
def _levels(
    network: IntegerNetwork, shape: tuple[int, ...], known: torch.Tensor | None, coder: BlockCoder, last: int
) -> Iterator[torch.Tensor]:
    """Code every level down to ``last``; yield the planes of each, ``[pictures, planes, height, width]``.

    ``known`` are all planes when encoding, None when decoding.
    """
    pictures, count, height, width = shape
    levels = level_count(height, width)
    rows, columns = level_size(height, levels), level_size(width, levels)
    ranges = np.repeat(np.array(PLANE_RANGES[:count], np.int64), rows * columns, axis=0)
    if known is None:
        flat = np.zeros((pictures, count * rows * columns), np.int32)
    else:
        step = 1 << levels
        flat = known[:, :, ::step, ::step].numpy().astype(np.int32).reshape(pictures, -1)
    coder.code_uniform(flat, ranges)
    grid = torch.from_numpy(flat.reshape(pictures, count, rows, columns).astype(np.float32))
    yield grid
    coarser = None
    for level in range(levels - 1, last - 1, -1):
        size = (level_size(height, level), level_size(width, level))
        target = None if known is None else known[:, :, :: 1 << level, :: 1 << level]
        grid, coarser = _level(network.level(level), size, grid, target, coarser, coder)
        yield grid


def _level(
    stages: tuple[IntegerStage, IntegerStage, int],
    size: tuple[int, int],
    coarse: torch.Tensor,
    target: torch.Tensor | None,
    coarser: torch.Tensor | None,
    coder: BlockCoder,
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
    stage = _stage(stage_a, full, base, features_a, means, present)
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
    stage = _stage(stage_b, known, base, features_b, means, present)
    sides = _coded(coder, 1, stage, sides)
    planes = coarse.new_empty(len(coarse), count, *size)
    planes[:, :, ::2, ::2] = coarse
    planes[:, :, 1::2, 1::2] = diagonal[:, :count, :below, :beside]
    planes[:, :, ::2, 1::2] = sides[:, :count, :, :beside]
    planes[:, :, 1::2, ::2] = sides[:, PLANES : PLANES + count, :below]
    return planes, features_b


def _stage(
    stage: IntegerStage,
    known: torch.Tensor,
    base: torch.Tensor,
    features: torch.Tensor,
    means: torch.Tensor,
    present: NDArray[np.bool_],
) -> StageBlocks:
    grids = base.shape[1] // PLANES
    edged = functional.pad(known, (1, 1, 1, 1), mode="replicate")
    return StageBlocks(
        rows=base.shape[2],
        columns=base.shape[3],
        parameters=stage.parameters(features).numpy(),
        means=_flat(means).numpy(),
        present=present,
        ranges=np.array(PLANE_RANGES * grids, np.int64),
        known=edged.to(torch.int32).numpy(),
        hidden=_flat(features).numpy(),
        base=_flat(base[:, :PLANES]).to(torch.int32).numpy(),
    )


def _coded(coder: BlockCoder, index: int, stage: StageBlocks, values: torch.Tensor) -> torch.Tensor:
    """Code ``values`` ``[pictures, variables, rows, columns]``; as they are when encoding."""
    flat = _flat(values).to(torch.int32).numpy()
    coder.code(index, stage, flat)
    grid = torch.from_numpy(flat.astype(np.float32)).view(len(values), stage.rows, stage.columns, -1)
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
    """``[pictures, n, rows, columns]`` as contiguous ``[blocks, n]``."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).contiguous()
