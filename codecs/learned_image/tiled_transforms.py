"""The float networks over pictures of any size: window by window, without seams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from .model_file import Model
from .transforms import Transforms
from .windows import Grid

if TYPE_CHECKING:
    from ..run_context import RunContext

__all__ = ["analyse", "hyper_analyse", "synthesise"]

_STEP = 16
"""Pixels to a latent."""
_MARGIN = 2
"""Latents around a tile on which its latents, or its pixels, depend: the kernels reach 30 pixels."""
_SIDE_STEP = 4
_SIDE_MARGIN = 2


def analyse(pixels: NDArray[np.uint8], model: Model, grid: Grid, context: RunContext) -> NDArray[np.float32]:
    """Latents ``[channels, rows, columns]`` of a picture ``[height, width, 1 or 3]`` whose edges are repeated."""
    transforms = Transforms.of(model, context.torch_device())
    height, width = grid.padded
    latents = np.empty((model.channels, height // _STEP, width // _STEP), np.float32)
    windows = grid.windows(_STEP, _MARGIN)
    for number, window in enumerate(windows):
        rows, columns = (
            np.minimum(np.arange(one.start, one.stop), side - 1)
            for one, side in zip(window.scaled(_STEP).outer, pixels.shape, strict=False)
        )
        part = np.broadcast_to(pixels[np.ix_(rows, columns)], (len(rows), len(columns), 3))
        picture = torch.from_numpy(part.transpose(2, 0, 1)[None].astype(np.float32)) / 255
        found = transforms.analysis(picture)[0].cpu().numpy()
        latents[:, *window.inner] = found[:, *window.kept]
        context.report("analyse", number + 1, len(windows), unit="tiles")
    return latents


def hyper_analyse(latents: NDArray[np.float32], model: Model, grid: Grid, context: RunContext) -> NDArray[np.float32]:
    """Side information of latents: float32 ``[side channels, rows / 4, columns / 4]``."""
    transforms = Transforms.of(model, context.torch_device())
    _, rows, columns = latents.shape
    side = np.empty((model.side_channels, rows // _SIDE_STEP, columns // _SIDE_STEP), np.float32)
    for window in grid.windows(_STEP * _SIDE_STEP, _SIDE_MARGIN):
        part = latents[:, *window.scaled(_SIDE_STEP).outer]
        found = transforms.hyper_analysis(torch.from_numpy(part[None]))[0].cpu().numpy()
        side[:, *window.inner] = found[:, *window.kept]
    return side


def synthesise(
    latents: NDArray[np.float32], model: Model, grid: Grid, pixels: NDArray[np.uint8], context: RunContext
) -> None:
    """Write the picture of ``latents`` into ``pixels`` ``[height, width, 1 or 3]``; grey is the mean of the three."""
    transforms = Transforms.of(model, context.torch_device())
    windows = grid.windows(_STEP, _MARGIN)
    for number, window in enumerate(windows):
        found = transforms.synthesis(torch.from_numpy(latents[None, :, *window.outer]))[0]
        rows, columns = window.scaled(_STEP).kept
        values = found[:, rows, columns]
        if pixels.shape[2] == 1:
            values = values.mean(0, keepdim=True)
        # forged latents may be anything
        levels = values.nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        target = pixels[*window.scaled(_STEP).inner]
        target[:] = levels[: target.shape[0], : target.shape[1]]
        context.report("synthesise", number + 1, len(windows), unit="tiles")
