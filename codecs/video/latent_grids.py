"""Latent grids while they are fitted: keys in time, their gains, and what they cost.

The scale of a latent's Laplace table depends on its channel and on a class: how large the latents of the key before are
around the same cell. Classes come from integers alone, so a decoder repeats them exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .grid_structure import key_weights
from .rate_model import laplace_bits, round_through

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .grid_structure import GridStructure

__all__ = ["CLASSES", "LatentGrids", "latent_classes"]

CLASSES = 5
"""0: no key before; 1 to 4: by the activity of the key before."""

_ACTIVITY_BOUNDS = (1, 3, 8)  # the least activity of classes 2, 3, 4
_FIRST_GAIN = 0.1
_FIRST_SCALE = 12.0
GAIN_BITS = 16
SCALE_BITS = 6


def latent_classes(before: torch.Tensor) -> torch.Tensor:
    """Classes 1 .. 4 of the latents that follow ``before``, whole numbers [..., rows, columns], as int64.

    Activity is twice the magnitude at the cell plus the magnitudes of its four neighbours; outside are zeros.
    """
    magnitude = before.abs()
    padded = F.pad(magnitude, (1, 1, 1, 1))
    sides = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    activity = 2 * magnitude + sides
    classes = torch.ones(before.shape, dtype=torch.int64, device=before.device)
    for bound in _ACTIVITY_BOUNDS:
        classes += activity >= bound
    return classes


class LatentGrids(nn.Module):
    """The grids of a segment of ``frames`` frames; latents are in units of their quantisation step."""

    def __init__(self, structure: GridStructure, frames: int) -> None:
        super().__init__()
        self._structure = structure
        self._frames = frames
        self.values = nn.ParameterList(torch.zeros(structure.grid_shape(grid, frames)) for grid in structure.grids)
        self.log_gains = nn.ParameterList(
            torch.full((grid.channels, 1, 1), math.log(_FIRST_GAIN)) for grid in structure.grids
        )
        self.scales = nn.ParameterList(torch.full((CLASSES, grid.channels), _FIRST_SCALE) for grid in structure.grids)
        for number, grid in enumerate(structure.grids):
            coverage = torch.zeros(grid.keys(frames))
            for frame in range(frames):
                first, second, weight = key_weights(frame, grid, frames)
                coverage[first] += 1 - weight
                coverage[second] += weight
            self.register_buffer(f"coverage{number}", coverage, persistent=False)

    def forward(self, indices: Sequence[int]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Latents of the frames ``indices`` per level [N, C, rows, columns], and the bits these frames account for.

        A frame accounts for its share of each key it uses, so that the bits of all frames sum to the bits of all keys.
        """
        levels: dict[int, list[torch.Tensor]] = {}
        bits = torch.zeros((), device=self.values[0].device)
        for number, grid in enumerate(self._structure.grids):
            triples = [key_weights(index, grid, self._frames) for index in indices]
            firsts, seconds = [triple[0] for triple in triples], [triple[1] for triple in triples]
            weights = torch.tensor([triple[2] for triple in triples], device=bits.device)
            quantised, cost = self._keys(number, firsts, 1 - weights)
            bits = bits + cost
            if any(triple[2] for triple in triples):
                following, cost = self._keys(number, seconds, weights)
                bits = bits + cost
                quantised = torch.lerp(quantised, following, weights.view(-1, 1, 1, 1))
            levels.setdefault(grid.stride, []).append(quantised * self.log_gains[number].exp())
        joined = [torch.cat(parts, dim=1) for parts in levels.values()]
        return [level.contiguous(memory_format=torch.channels_last) for level in joined], bits

    def bits(self) -> torch.Tensor:
        """The estimated size of all latents, rounded, with their gains and scales."""
        total = torch.zeros((), device=self.values[0].device)
        for number, values in enumerate(self.values):
            for key in range(len(values)):
                levels = values[key].round()
                total = total + laplace_bits(levels, self._scale_index(number, key)).sum()
            channels = values.shape[1]
            total = total + channels * (GAIN_BITS + SCALE_BITS * (CLASSES if len(values) > 1 else 1))
        return total

    def _keys(self, number: int, keys: list[int], shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys ``keys`` of a grid, quantised, and the ``shares`` of their bits."""
        quantised = round_through(self.values[number][keys])
        coverage: torch.Tensor = getattr(self, f"coverage{number}")
        index = torch.stack([self._scale_index(number, key) for key in keys])
        costs = laplace_bits(quantised, index).sum(dim=(1, 2, 3))
        return quantised, (costs * shares / coverage[keys]).sum()

    def _scale_index(self, number: int, key: int) -> torch.Tensor:
        """[channels, rows, columns]: the scale index of every latent of a key."""
        scales = self.scales[number]
        values = self.values[number]
        if key == 0:
            first: torch.Tensor = scales[0].view(-1, 1, 1).expand(values.shape[1:])
            return first
        with torch.no_grad():
            classes = latent_classes(values[key - 1].round())
        channels = torch.arange(values.shape[1], device=values.device).view(-1, 1, 1)
        index: torch.Tensor = scales[classes, channels]
        return index
