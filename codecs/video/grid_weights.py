"""The weights of ``gridnerv``: which tensors there are, and how they are held while they are fitted.

All tensors lie one after the other in one vector, so that quantising them and counting their bits takes a few
operations a step however many tensors there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from .grid_structure import BLOCK_KERNEL
from .rate_model import COUNTED, cheapest_scales, laplace_bits, nearest_scale, round_through, rounded_bits, table_bits

if TYPE_CHECKING:
    from .grid_structure import GridStructure

__all__ = ["CodedWeights", "GridWeights", "TensorSpec", "by_name", "tensor_specs"]

_FIRST_LEVELS = 6.0  # quantisation steps in the standard deviation of fresh weights
_FIRST_BIAS_STEP = 0.02
_SHORTEST_ROW = 32
_OCTAVE = math.log(2)
_LARGEST_LOG_STEP, _SMALLEST_LOG_STEP = 8 * _OCTAVE, -13 * _OCTAVE
_STEP_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor of the network: weights [out, in], depthwise kernels [channels, 1, rows, columns] or biases [out].

    ``deviation`` is that of fresh values, 0 for biases.
    """

    name: str
    shape: tuple[int, ...]
    deviation: float

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        """How many entropy scales it has: one per output channel where a channel has enough values, else one."""
        return self.shape[0] if self.size // self.shape[0] >= _SHORTEST_ROW else 1


@cache
def tensor_specs(structure: GridStructure) -> tuple[TensorSpec, ...]:
    """The tensors of a network in file order."""
    specs: list[TensorSpec] = []

    def add(name: str, shape: tuple[int, ...], gain: float = 1.0) -> None:
        deviation = gain / math.sqrt(math.prod(shape[1:]))
        specs.append(TensorSpec(name=f"{name}.weight", shape=shape, deviation=deviation))
        specs.append(TensorSpec(name=f"{name}.bias", shape=shape[:1], deviation=0.0))

    levels = list(zip(structure.level_channels, structure.widths, structure.blocks, strict=True))
    for level, (channels, width, _) in enumerate(levels):
        add(f"input{level}", (width, channels))
    for level, (_, width, blocks) in enumerate(levels):
        inner = width * structure.expansion
        for block in range(blocks):
            add(f"depthwise{level}.{block}", (width, 1, BLOCK_KERNEL, BLOCK_KERNEL))
            add(f"expand{level}.{block}", (inner, width), math.sqrt(2))
            add(f"project{level}.{block}", (width, inner), 0.5)
    for level, (before, after) in enumerate(pairwise(structure.widths)):
        add(f"enlarge{level}", (after, before))
    add("head", (3 * structure.strides[-1] ** 2, structure.widths[-1]), 0.5)
    return tuple(specs)


def by_name(structure: GridStructure, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views of the vector ``values`` as tensors, by name."""
    specs = tensor_specs(structure)
    pieces = values.split([spec.size for spec in specs])
    return {spec.name: piece.view(spec.shape) for spec, piece in zip(specs, pieces, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedWeights:
    """What a file holds of a network: float16 steps, int64 scale indices of all rows, whole float32 levels."""

    steps: torch.Tensor
    scales: torch.Tensor
    levels: torch.Tensor
    bits: float


class GridWeights(nn.Module):
    """The values of all tensors [values] and their learned steps [tensors], used rounded to multiples of the step."""

    def __init__(self, structure: GridStructure, generator: torch.Generator) -> None:
        super().__init__()
        self.structure = structure
        specs = tensor_specs(structure)
        fresh = [torch.randn(spec.size, generator=generator) * spec.deviation for spec in specs]
        self.values = nn.Parameter(torch.cat(fresh))
        steps = [spec.deviation / _FIRST_LEVELS or _FIRST_BIAS_STEP for spec in specs]
        self.log_steps = nn.Parameter(torch.log(torch.tensor(steps)))
        sizes = torch.tensor([spec.size for spec in specs])
        rows = torch.tensor([spec.rows for spec in specs])
        lengths = torch.repeat_interleave(sizes // rows, rows)
        self._tensor_of: torch.Tensor
        self._row_of: torch.Tensor
        self._row_lengths: torch.Tensor
        self.register_buffer("_tensor_of", torch.repeat_interleave(torch.arange(len(specs)), sizes), persistent=False)
        self.register_buffer("_row_of", torch.repeat_interleave(torch.arange(len(lengths)), lengths), persistent=False)
        self.register_buffer("_row_lengths", lengths.float(), persistent=False)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The values that a decoder would use, differentiable, and their bits, judged before rounding."""
        steps = self._steps().index_select(0, self._tensor_of)
        levels = self.values / steps
        sums = torch.zeros_like(self._row_lengths).index_add(0, self._row_of, levels.abs())
        scales = nearest_scale(sums / self._row_lengths).index_select(0, self._row_of)
        return round_through(levels) * steps, laplace_bits(levels, scales).sum()

    @torch.no_grad()
    def coded(self) -> CodedWeights:
        """The integers that a file of this state holds, and their size in bits, steps and scales included."""
        steps = self._steps().half()
        levels = (self.values / steps.float().index_select(0, self._tensor_of)).round()
        rows = len(self._row_lengths)
        cells = self._row_of * COUNTED + levels.abs().clamp(max=COUNTED - 1).long()
        scales = cheapest_scales(torch.bincount(cells, minlength=rows * COUNTED).view(rows, COUNTED))
        bits = float(rounded_bits(levels, scales.index_select(0, self._row_of)).sum())
        bits += table_bits(scales) + _STEP_BITS * len(steps)
        return CodedWeights(steps=steps, scales=scales, levels=levels, bits=bits)

    def _steps(self) -> torch.Tensor:
        return self.log_steps.clamp(_SMALLEST_LOG_STEP, _LARGEST_LOG_STEP).exp()
