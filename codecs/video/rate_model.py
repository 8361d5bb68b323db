"""The differentiable rate: what a quantised value costs under the Laplace tables of the entropy layer.

During a fit, scales are real numbers in units of the tables' scale index; in a file they are those indices. Values are
in units of their quantisation step.
"""

from __future__ import annotations

import math

import torch

from ...entropy.parametric_tables import SCALE_COUNT

__all__ = ["LARGEST_SCALE", "STEPS_PER_OCTAVE", "laplace_bits", "nearest_scale", "round_through"]

LARGEST_SCALE = SCALE_COUNT - 1
STEPS_PER_OCTAVE = 6
_FIRST_OCTAVE = -3  # scale index 0 stands for 2**-3


def laplace_bits(values: torch.Tensor, scale_index: torch.Tensor) -> torch.Tensor:
    """Bits of each value under the Laplace density of mean absolute value ``2**(scale_index / 6 - 3)``.

    The mass between value - 1/2 and value + 1/2, also for values between the integers; ``scale_index`` broadcasts and
    is held within 0 .. 63.
    """
    index = scale_index.clamp(0, LARGEST_SCALE)
    rate = torch.exp2(-_FIRST_OCTAVE - index / STEPS_PER_OCTAVE)  # 1 / scale
    magnitude = values.abs()
    outside = (magnitude * rate - torch.log(torch.sinh(rate / 2))) / math.log(2)
    near = torch.cosh(magnitude.clamp(max=0.5) * rate)
    inside = -torch.log2(1 - torch.exp(-rate / 2) * near)
    return torch.where(magnitude > 0.5, outside, inside)


def nearest_scale(mean_magnitude: torch.Tensor) -> torch.Tensor:
    """The scale index, not rounded, of values whose mean absolute value is given."""
    smallest = 2.0**_FIRST_OCTAVE
    return STEPS_PER_OCTAVE * (torch.log2(mean_magnitude.clamp(min=smallest)) - _FIRST_OCTAVE)


def round_through(values: torch.Tensor) -> torch.Tensor:
    """Rounded values whose gradient is that of the values (the straight-through estimator)."""
    return values + (values.round() - values).detach()
