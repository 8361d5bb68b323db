"""Latent grids while they are fitted: keys in time, their gains, and what they cost.

The scale of a latent's Laplace table depends on its channel and on a class: how large the latents of the key before are
around the same cell. Classes come from integers alone, so a decoder repeats them exactly. Scales are the integers of a
file throughout: now and then they are chosen anew for the latents as they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .rate_model import COUNTED, cheapest_scales, round_through, rounded_bits, table_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .grid_structure import Grid, GridStructure

__all__ = ["CLASSES", "LatentGrids", "latent_classes"]

CLASSES = 5
"""0: no key before; 1 to 4: by the activity of the key before."""

_ACTIVITY_BOUNDS = (1, 3, 8)  # the least activity of classes 2, 3, 4
_FIRST_GAIN = 0.1
_FIRST_SCALE = 12
_GAIN_BITS = 16


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
        self._grids = structure.grids
        self._frames = frames
        self.values = nn.ParameterList(torch.zeros(structure.grid_shape(grid, frames)) for grid in structure.grids)
        self.log_gains = nn.ParameterList(
            torch.full((grid.channels, 1, 1), math.log(_FIRST_GAIN)) for grid in structure.grids
        )
        for number, grid in enumerate(structure.grids):
            rows = CLASSES if grid.keys(frames) > 1 else 1
            self.register_buffer(f"scales{number}", torch.full((rows, grid.channels), _FIRST_SCALE))
            coverage = torch.zeros(grid.keys(frames))
            first, second, weight = _keys_of(torch.arange(frames), grid, frames)
            coverage.index_add_(0, first, 1 - weight).index_add_(0, second, weight)
            self.register_buffer(f"coverage{number}", coverage, persistent=False)

    def scales(self, number: int) -> torch.Tensor:
        """The scale indices of a grid, int64 [classes, channels]."""
        scales: torch.Tensor = self.get_buffer(f"scales{number}")
        return scales

    def keys_of(self, indices: torch.Tensor) -> list[torch.Tensor]:
        """What the frames ``indices`` use of each grid, [N, C, rows, columns]: their first keys, then their second."""
        held = []
        for values, grid in zip(self.values, self._grids, strict=True):
            first, second, _ = _keys_of(indices, grid, self._frames)
            held.append(values.index_select(0, first))
            if grid.period > 1:
                held.append(values.index_select(0, second))
        return held

    def forward(
        self, indices: torch.Tensor, held: Sequence[torch.Tensor], gains: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Latents of the frames ``indices`` per level [N, rows, columns, C], and the bits these frames account for.

        ``held`` comes from :meth:`keys_of` and ``gains`` are ``log_gains``. A frame accounts for its share of each key
        it uses, so that the bits of all frames sum to the bits of all keys.
        """
        levels: dict[int, list[torch.Tensor]] = {}
        bits = torch.zeros((), device=indices.device)
        remaining = iter(held)
        for number, grid in enumerate(self._grids):
            first, second, weight = _keys_of(indices, grid, self._frames)
            quantised = round_through(next(remaining))
            bits = bits + self._share(number, quantised, first, 1 - weight)
            if grid.period > 1:
                following = round_through(next(remaining))
                bits = bits + self._share(number, following, second, weight)
                quantised = torch.lerp(quantised, following, weight.view(-1, 1, 1, 1))
            levels.setdefault(grid.stride, []).append(quantised * gains[number].exp())
        return [torch.cat(parts, dim=1).permute(0, 2, 3, 1) for parts in levels.values()], bits

    @torch.no_grad()
    def refit_scales(self) -> float:
        """Choose the cheapest scales for the latents as they are; their size in bits, gains and scales included."""
        total, chosen = 0.0, []
        for number, values in enumerate(self.values):
            scales = self.scales(number)
            rows, channels = scales.shape
            channel = torch.arange(channels, device=values.device).view(-1, 1, 1)
            counts = torch.zeros(rows * channels * COUNTED, dtype=torch.int64, device=values.device)
            for key in range(len(values)):
                classes = 0 if key == 0 else latent_classes(values[key - 1].round())
                magnitudes = values[key].round().abs().clamp(max=COUNTED - 1).long()
                cells = (classes * channels + channel) * COUNTED + magnitudes
                counts += torch.bincount(cells.flatten(), minlength=len(counts))
            scales.copy_(cheapest_scales(counts.view(-1, COUNTED)).view(rows, channels))
            chosen.append(scales.flatten())
            magnitudes = torch.arange(COUNTED, device=values.device)
            costs = rounded_bits(magnitudes.double(), scales.view(-1, 1).expand(-1, COUNTED))
            total += float((costs * counts.view(-1, COUNTED)).sum()) + _GAIN_BITS * channels
        return total + table_bits(torch.cat(chosen))

    def _share(self, number: int, quantised: torch.Tensor, keys: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """The ``shares`` of the bits of whole ``keys`` [N, C, rows, columns]."""
        costs = rounded_bits(quantised, self._scale_index(number, keys)).sum(dim=(1, 2, 3))
        coverage: torch.Tensor = self.get_buffer(f"coverage{number}")
        return (costs * shares / coverage[keys]).sum()

    @torch.no_grad()
    def _scale_index(self, number: int, keys: torch.Tensor) -> torch.Tensor:
        """The scale index of every latent of ``keys``, int64 [N, C, rows, columns]."""
        scales, values = self.scales(number), self.values[number]
        rows, channels = scales.shape
        if rows == 1:
            return scales.view(1, channels, 1, 1).expand(len(keys), *values.shape[1:])
        before = values.index_select(0, (keys - 1).clamp(min=0)).round()
        classes = latent_classes(before) * (keys > 0).view(-1, 1, 1, 1)
        channel = torch.arange(channels, device=values.device).view(-1, 1, 1)
        return scales.flatten()[classes * channels + channel]


def _keys_of(indices: torch.Tensor, grid: Grid, frames: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each frame its two keys, int64, and the weight of the second; as ``grid_structure.key_weights``."""
    if grid.period == 0:
        zeros = torch.zeros_like(indices)
        return zeros, zeros, zeros.float()
    first = indices // grid.period
    second = (first + 1).clamp(max=grid.keys(frames) - 1)
    return first, second, (indices - first * grid.period) / grid.period
