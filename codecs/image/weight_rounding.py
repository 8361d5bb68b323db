"""The number format of the integer network, shared by training and conversion.

A layer's accumulator must stay below 2^24 in magnitude, where float32 adds integers exactly in any order. Each
output channel therefore gets the largest power-of-two weight scale for which no input can exceed that bound.
"""

from __future__ import annotations

import torch

__all__ = [
    "ACCUMULATOR_LIMIT",
    "ACTIVATION_LIMIT",
    "ACTIVATION_STEP",
    "INPUT_MAGNITUDE",
    "MAX_EXPONENT",
    "round_weights",
    "weight_exponents",
]

ACTIVATION_STEP = 1 / 64
ACTIVATION_LIMIT = 1023 / 64
"""Largest magnitude of a hidden activation; smaller ones are multiples of the step."""
INPUT_MAGNITUDE = 510.0
"""Largest difference between a plane's value and a base prediction."""
ACCUMULATOR_LIMIT = (1 << 24) - (1 << 21)
"""Bound on the sum of products; the rest is for bias and rounding."""
MAX_EXPONENT = 24
"""Finest weight scale, for channels whose weights are next to nothing."""


def weight_exponents(weight: torch.Tensor, magnitude: float) -> torch.Tensor:
    """Per output channel, the largest e with ``sum(abs(weight)) * 2**e * magnitude`` within the limit."""
    sums = weight.detach().double().abs().flatten(1).sum(1).clamp_min(2.0**-30)
    return torch.floor(torch.log2(ACCUMULATOR_LIMIT / (sums * magnitude))).clamp_max(MAX_EXPONENT)


def round_weights(weight: torch.Tensor, magnitude: float) -> torch.Tensor:
    """``weight`` rounded as the integer network holds it; gradients pass straight through."""
    exponents = weight_exponents(weight, magnitude).to(weight.dtype)
    unit = torch.exp2(-exponents).view(-1, *[1] * (weight.dim() - 1))
    with torch.no_grad():
        change = torch.round(weight / unit) * unit - weight
    return weight + change
