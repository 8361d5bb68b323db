"""The differentiable rate: what a quantised value costs under the Laplace tables of the entropy layer.

Values are in units of their quantisation step. Scales are those tables' indices: whole numbers for latents, as in a
file, and real numbers for weights, whose scales follow from their own magnitudes at every step of a fit.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch

from ...entropy.frequency_table import FrequencyTable
from ...entropy.parametric_tables import SCALE_COUNT

__all__ = [
    "COUNTED",
    "STEPS_PER_OCTAVE",
    "cheapest_scales",
    "laplace_bits",
    "nearest_scale",
    "round_through",
    "rounded_bits",
    "table_bits",
]

STEPS_PER_OCTAVE = 6
COUNTED = 256
"""Magnitudes that :func:`cheapest_scales` tells apart; larger ones count as the largest of them."""

_FIRST_OCTAVE = -3  # scale index 0 stands for 2**-3


def laplace_bits(values: torch.Tensor, scale_index: torch.Tensor) -> torch.Tensor:
    """Bits of each value under the Laplace density of mean absolute value ``2**(scale_index / 6 - 3)``.

    The mass between value - 1/2 and value + 1/2, also for values between the integers; ``scale_index`` broadcasts.
    """
    rate, slope, offset = _line(scale_index)
    magnitude = values.abs()
    near = torch.cosh(magnitude.clamp(max=0.5) * rate)
    inside = -torch.log2(1 - torch.exp(-rate / 2) * near)
    return torch.where(magnitude > 0.5, magnitude * slope + offset, inside)


def rounded_bits(levels: torch.Tensor, scale_index: torch.Tensor) -> torch.Tensor:
    """:func:`laplace_bits` of whole ``levels`` under whole scale indices, int64; fast."""
    slopes, offsets, zeros = _lines(levels.device)
    magnitude = levels.abs()
    constant = torch.where(magnitude > 0, offsets[scale_index], zeros[scale_index])
    return magnitude * slopes[scale_index] + constant


def cheapest_scales(histograms: torch.Tensor) -> torch.Tensor:
    """The scale index, int64, with the fewest bits for each row of magnitude counts [rows, COUNTED]."""
    costs = _magnitude_bits().to(histograms.device) @ histograms.to(torch.float64).T
    return costs.argmin(dim=0)


def table_bits(symbols: torch.Tensor) -> float:
    """Bits of symbols, whole numbers from 0, under a frequency table of their own, and of that table."""
    values = symbols.flatten().cpu().numpy()
    table = FrequencyTable.from_counts(np.bincount(values))
    return float(table.code_length_bits(values)) + 8 * len(table.to_bytes())


def nearest_scale(mean_magnitude: torch.Tensor) -> torch.Tensor:
    """The scale index, not rounded, of values whose mean absolute value is given."""
    smallest, largest = 2.0**_FIRST_OCTAVE, 2.0 ** ((SCALE_COUNT - 1) / STEPS_PER_OCTAVE + _FIRST_OCTAVE)
    return STEPS_PER_OCTAVE * (torch.log2(mean_magnitude.clamp(min=smallest, max=largest)) - _FIRST_OCTAVE)


def round_through(values: torch.Tensor) -> torch.Tensor:
    """Rounded values whose gradient is that of the values (the straight-through estimator)."""
    return values + (values.round() - values).detach()


def _line(scale_index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """1 / scale, and the bits of a magnitude beyond 1/2 as slope and offset."""
    rate = torch.exp2(-_FIRST_OCTAVE - scale_index / STEPS_PER_OCTAVE)
    return rate, rate / math.log(2), -torch.log2(torch.sinh(rate / 2))


@cache
def _lines(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Slope, offset and the bits of zero for every scale index, float32 [SCALE_COUNT]."""
    index = torch.arange(SCALE_COUNT, dtype=torch.float64)
    _, slope, offset = _line(index)
    zero = laplace_bits(torch.zeros(SCALE_COUNT, dtype=torch.float64), index)
    return slope.float().to(device), offset.float().to(device), zero.float().to(device)


@cache
def _magnitude_bits() -> torch.Tensor:
    """float64 [scale index, magnitude]: bits of one value."""
    magnitudes = torch.arange(COUNTED, dtype=torch.float64)
    return laplace_bits(magnitudes, torch.arange(SCALE_COUNT, dtype=torch.float64)[:, None])
