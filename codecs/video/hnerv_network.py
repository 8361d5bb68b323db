"""The HNeRV networks: a ConvNeXt encoder that makes embeddings, and the decoder that a file carries.

Section 3.2 of arXiv 2304.02633 and its published code: no normalisation in the decoder, GELU, PixelShuffle, and
``tanh / 2 + 1/2`` at the output.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .autoencoder import Autoencoder
from .frame_decoder import FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .hnerv_structure import Structure

__all__ = ["Decoder", "Encoder", "hnerv", "make_encoder"]

_LAYER_SCALE = 1e-6
_NORM_EPSILON = 1e-6
_INIT_DEVIATION = 0.02


def hnerv(structure: Structure, *, encoder_width: int = 64) -> Autoencoder:
    """Encoder and decoder with fresh weights, to be fitted together."""
    return Autoencoder(make_encoder(structure.strides, encoder_width, structure.embedding), Decoder(structure))


def make_encoder(strides: Sequence[int], width: int, embedding: int) -> Encoder:
    """The encoder of a decoder with these ``strides``, ``width`` channels wide, for embeddings of that many."""
    return Encoder(strides, [width] * (len(strides) - 1) + [embedding])


class Encoder(nn.Module):
    """ConvNeXt: per stage a strided patch convolution and one block."""

    def __init__(self, strides: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for number, (stride, (before, after)) in enumerate(zip(strides, pairwise([3, *widths]), strict=True)):
            patch = nn.Conv2d(before, after, stride, stride)
            norm = ChannelNorm(before if number else after)
            # the first stage normalises after its convolution, the others before
            order = [norm, patch] if number else [patch, norm]
            self.stages.append(nn.Sequential(*order, ConvNeXtBlock(after)))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=_INIT_DEVIATION)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[N, 3, H, W] -> embeddings [N, C, rows, columns]."""
        x = pictures
        for stage in self.stages:
            x = stage(x)
        return x


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [N, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.weight.shape
        normalised = F.layer_norm(x.permute(0, 2, 3, 1), shape, self.weight, self.bias, _NORM_EPSILON)
        return normalised.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, normalisation, and a two-layer perceptron per pixel, scaled and added (arXiv 2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_NORM_EPSILON)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), _LAYER_SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # pixel-wise layers work on [N, H, W, C], which channels_last memory already is
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(F.gelu(self.expand(y)))
        result: torch.Tensor = x + y.permute(0, 3, 1, 2)
        return result


class Decoder(FrameDecoder):
    """Stem, upsampling stages and head."""

    def __init__(self, structure: Structure) -> None:
        super().__init__()
        widths = structure.widths
        self.stem = nn.Conv2d(structure.embedding, widths[0], 1)
        stages = zip(pairwise(widths), structure.strides, structure.kernels, strict=True)
        self.strides = structure.strides
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after * stride**2, kernel, padding=kernel // 2)
            for (before, after), stride, kernel in stages
        )
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """[N, C, rows, columns] -> pictures [N, 3, H, W] in 0..1."""
        x = F.gelu(self.stem(embeddings))
        for stage, stride in zip(self.stages, self.strides, strict=True):
            x = F.gelu(F.pixel_shuffle(stage(x), stride))
        pictures: torch.Tensor = torch.tanh(self.head(x)) * 0.5 + 0.5
        return pictures
