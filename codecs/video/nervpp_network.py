"""The NeRV++ decoder: separable residual blocks around every upsampling convolution, and a bilinear skip.

Section 3 of arXiv 2402.18305. The stem for times is NeRV's: a positional encoding of base 1.25 with 40 frequencies and
a perceptron.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .frame_decoder import FrameDecoder
from .nervpp_structure import DEPTHWISE_KERNEL, TIME_FEATURES

if TYPE_CHECKING:
    from .nervpp_structure import NeRVPlusPlusStructure, Stage

__all__ = ["Decoder", "SeparableResidualBlock", "UpsamplingStage", "time_encodings"]

_BASE = 1.25


class Decoder(FrameDecoder):
    """Stem, upsampling stages and a 1x1 head."""

    def __init__(self, structure: NeRVPlusPlusStructure) -> None:
        super().__init__()
        self._embeds = structure.embedding_shape is not None
        self._grid = structure.rows, structure.columns
        widths = structure.widths
        self.stem = nn.ModuleList()
        if self._embeds:
            self.stem.append(nn.Conv2d(structure.embedding, widths[0], 1))
        else:
            self.stem.append(nn.Conv2d(TIME_FEATURES, structure.hidden, 1))
            self.stem.append(nn.Conv2d(structure.hidden, widths[0] * structure.rows * structure.columns, 1))
        self.stages = nn.ModuleList(UpsamplingStage(stage, structure.expansion) for stage in structure.stages)
        self.head = nn.Conv2d(widths[-1], 3, 1)

    def inputs(self, frames: int, embeddings: torch.Tensor | None) -> torch.Tensor:
        """Embeddings [T, C, rows, columns], or encodings of the frames' times [T, 80, 1, 1]."""
        return super().inputs(frames, embeddings) if self._embeds else time_encodings(frames)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """:meth:`inputs` of some frames -> pictures [N, 3, H, W] in 0..1."""
        x = inputs
        for layer in self.stem:
            x = F.silu(layer(x))
        if not self._embeds:
            x = x.reshape(len(x), -1, *self._grid)
        for stage in self.stages:
            x = stage(x)
        pictures: torch.Tensor = torch.tanh(self.head(x)) * 0.5 + 0.5
        return pictures


class UpsamplingStage(nn.Module):
    """Projection to the stage's width, block, convolution + PixelShuffle + SiLU, block; a bilinear skip around it."""

    def __init__(self, stage: Stage, expansion: int) -> None:
        super().__init__()
        width = stage.width
        self.project = nn.Conv2d(stage.before, width, 1)
        self.before = SeparableResidualBlock(width, expansion)
        self.upsample = nn.Conv2d(width, width * stage.stride**2, stage.kernel, padding=stage.kernel // 2)
        self.after = SeparableResidualBlock(width, expansion)
        self._stride = stage.stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, rows, columns] -> [N, width, stride * rows, stride * columns]."""
        projected = self.project(x)
        skip = F.interpolate(projected, scale_factor=float(self._stride), mode="bilinear", align_corners=False)
        upsampled = F.silu(F.pixel_shuffle(self.upsample(self.before(projected)), self._stride))
        result: torch.Tensor = self.after(upsampled) + skip
        return result


class SeparableResidualBlock(nn.Module):
    """SCRB: depthwise 3x3, pointwise expansion, GELU, pointwise projection, added to the input."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, DEPTHWISE_KERNEL, padding=DEPTHWISE_KERNEL // 2, groups=width)
        self.expand = nn.Conv2d(width, expansion * width, 1)
        self.project = nn.Conv2d(expansion * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.project(F.gelu(self.expand(self.depthwise(x))))
        return result


def time_encodings(frames: int) -> torch.Tensor:
    """NeRV's positional encoding of the times 0, 1/T, ...: float32 [T, 80, 1, 1], sines before cosines."""
    times = torch.arange(frames, dtype=torch.float64) / frames
    frequencies = _BASE ** torch.arange(TIME_FEATURES // 2, dtype=torch.float64)
    angles = math.pi * times[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()[:, :, None, None]
