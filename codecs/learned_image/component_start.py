"""Where training starts: transforms that are principal components of blocks, so that a poor codec is there at once.

Each of the four stages maps 2 x 2 blocks of its input to their principal components; a 5 x 5 kernel holds them in its
taps 2 and 3. The synthesis holds the transposes. Together they are an orthonormal transform of 16 x 16 pixels that
keeps as many components as there are latent channels.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["start_from_components"]

_GAMMA = 0.02
"""Normalisations start nearly linear."""
_SPARE_SCALE = 0.3
_LEAST_SCALE = 0.2
_TAPS = slice(2, 4)


@torch.no_grad()
def start_from_components(model: Any, crops: torch.Tensor, gain: float) -> None:
    """Set the weights of a CompressAI ``model`` from ``crops`` ``[crops, 3, side, side]`` of values 0 to 1.

    ``gain`` is what latents are multiplied by before rounding, at a middle rate.
    """
    signal = crops - _mean(crops)[:, None, None]
    convolutions = [layer for layer in model.g_a if hasattr(layer, "weight")]
    transposes = [layer for layer in model.g_s if hasattr(layer, "weight")][::-1]
    for analysis, synthesis in zip(convolutions, transposes, strict=True):
        blocks = _blocks(signal)
        components = _components(blocks, analysis.out_channels)  # [kept, inputs * 4]
        kept, inputs = len(components), signal.shape[1]
        analysis.weight.mul_(_SPARE_SCALE)
        analysis.weight[:kept] = 0
        analysis.weight[:kept, :inputs, _TAPS, _TAPS] = components.view(kept, inputs, 2, 2)
        analysis.bias.zero_()
        synthesis.weight.zero_()
        synthesis.weight[:kept, :inputs, _TAPS, _TAPS] = components.view(kept, inputs, 2, 2)
        synthesis.bias.zero_()
        height, width = signal.shape[2] // 2, signal.shape[3] // 2
        signal = (blocks @ components.T).view(len(crops), height, width, kept).permute(0, 3, 1, 2)
    # only pictures have a mean to speak of
    first = convolutions[0]
    first.bias.copy_(-(first.weight.sum((2, 3)) @ _mean(crops)))
    transposes[0].bias.copy_(_mean(crops))
    for layer in (*model.g_a, *model.g_s):
        if hasattr(layer, "gamma"):
            layer.gamma.copy_(layer.gamma_reparam.init(_GAMMA * torch.eye(len(layer.gamma))))
    if hasattr(model, "h_s"):
        scales = (signal.std((0, 2, 3)) * gain).clamp(min=_LEAST_SCALE)
        last = [layer for layer in model.h_s if hasattr(layer, "weight")][-1]
        last.bias.zero_()
        last.bias[: len(scales)] = scales


def _mean(crops: torch.Tensor) -> torch.Tensor:
    return crops.mean((0, 2, 3))


def _blocks(signal: torch.Tensor) -> torch.Tensor:
    """All 2 x 2 blocks: ``[blocks, channels * 4]``, pictures, rows and columns in order."""
    blocks = signal.unfold(2, 2, 2).unfold(3, 2, 2)
    return blocks.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)


def _components(centred: torch.Tensor, count: int) -> torch.Tensor:
    """The principal components ``[count or fewer, inputs]``, those of largest variance first."""
    covariance = centred.T @ centred / len(centred)
    _, vectors = torch.linalg.eigh(covariance.double())
    components: torch.Tensor = vectors.flip(1).T[:count].float()
    return components
