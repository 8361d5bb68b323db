"""Structural similarity as a differentiable loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["absolute_and_structural", "ssim"]

_WINDOW = 11
_DEVIATION = 1.5
_STABILISERS = (0.01**2, 0.03**2)
_ABSOLUTE_SHARE = 0.7


def ssim(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean SSIM (Wang et al. 2004) of pictures [N, C, H, W] in 0..1, Gaussian windows that lie within the picture.

    Pictures with a side below 11 are extended by repeating their edges.
    """
    height, width = made.shape[2:]
    if min(height, width) < _WINDOW:
        missing = (0, max(0, _WINDOW - width), 0, max(0, _WINDOW - height))
        made, wanted = (F.pad(pictures, missing, mode="replicate") for pictures in (made, wanted))
    count = len(made)
    maps = torch.cat([made, wanted, made * made, wanted * wanted, made * wanted])
    mean_a, mean_b, square_a, square_b, product = _blurred(maps).split(count)
    one, two = _STABILISERS
    variances = square_a - mean_a**2 + square_b - mean_b**2
    structure = (2 * (product - mean_a * mean_b) + two) / (variances + two)
    luminance = (2 * mean_a * mean_b + one) / (mean_a**2 + mean_b**2 + one)
    mean: torch.Tensor = (luminance * structure).mean()
    return mean


def absolute_and_structural(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The loss of NeRV and NeRV++: 0.7 times the mean absolute error and 0.3 times (1 - SSIM)."""
    return _ABSOLUTE_SHARE * F.l1_loss(made, wanted) + (1 - _ABSOLUTE_SHARE) * (1 - ssim(made, wanted))


def _blurred(maps: torch.Tensor) -> torch.Tensor:
    """Every channel weighted by the window, without padding."""
    positions = torch.arange(_WINDOW, dtype=maps.dtype, device=maps.device) - _WINDOW // 2
    window = torch.exp(-(positions**2) / (2 * _DEVIATION**2))
    channels = maps.shape[1]
    weights = (window / window.sum()).expand(channels, 1, 1, _WINDOW)
    rows = F.conv2d(maps, weights, groups=channels)
    return F.conv2d(rows, weights.transpose(2, 3), groups=channels)
