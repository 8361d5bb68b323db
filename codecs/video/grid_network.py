"""The network of ``gridnerv``: latents of several resolutions in, pictures out.

Coarse to fine: every level adds a projection of its latents to the bilinearly enlarged features of the level before and
refines the sum with depthwise-separable residual blocks. Most work is done at the finest level, a quarter of the
picture's resolution by default; one 3x3 convolution and PixelShuffle make the picture.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .grid_structure import BLOCK_KERNEL, HEAD_KERNEL
from .rate_model import laplace_bits, nearest_scale, round_through

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .grid_structure import GridStructure

__all__ = ["GridNetwork", "Quantised", "frozen_network", "scale_rows"]

_FIRST_LEVELS = 6.0  # quantisation steps in the standard deviation of fresh weights
_FIRST_BIAS_STEP = 0.02
_SHORTEST_ROW = 32
_OCTAVE = math.log(2)
LARGEST_LOG_STEP = 8 * _OCTAVE
SMALLEST_LOG_STEP = -13 * _OCTAVE
SCALE_BITS = 6
STEP_BITS = 16


def scale_rows(shape: tuple[int, ...]) -> int:
    """How many entropy scales a tensor has: one per output channel where a channel has enough values, else one."""
    return shape[0] if math.prod(shape[1:]) >= _SHORTEST_ROW else 1


class Quantised(nn.Module):
    """A tensor that is used rounded to multiples of a learned step; gradients pass through the rounding."""

    def __init__(self, value: torch.Tensor, step: float) -> None:
        super().__init__()
        self.value = nn.Parameter(value)
        self.log_step = nn.Parameter(torch.tensor(math.log(step)))
        self._frozen: torch.Tensor | None = None

    def freeze(self, values: torch.Tensor) -> None:
        """From now on use ``values`` as they are."""
        self._frozen = values

    def forward(self) -> torch.Tensor:
        """The values that a decoder would use, differentiable."""
        if self._frozen is not None:
            return self._frozen
        step = self.step()
        return round_through(self.value / step) * step

    def step(self) -> torch.Tensor:
        """The quantisation step, as the file stores it up to half precision."""
        return self.log_step.clamp(SMALLEST_LOG_STEP, LARGEST_LOG_STEP).exp()

    def bits(self, *, rounded: bool = False) -> torch.Tensor:
        """The estimated size with its scales and step; of the values before rounding unless ``rounded``."""
        levels = self.value / self.step()
        if rounded:
            levels = levels.round()
        rows = levels.reshape(scale_rows(tuple(levels.shape)), -1)
        index = nearest_scale(rows.abs().mean(dim=1, keepdim=True))
        return laplace_bits(rows, index).sum() + SCALE_BITS * len(rows) + STEP_BITS


class QuantisedConv(nn.Module):
    """A convolution with quantised weight and bias. ``gain`` scales the first weights."""

    def __init__(self, before: int, after: int, kernel: int = 1, *, groups: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        deviation = gain / math.sqrt(before // groups * kernel**2)
        weight = torch.randn(after, before // groups, kernel, kernel) * deviation
        self.weight = Quantised(weight, deviation / _FIRST_LEVELS)
        self.bias = Quantised(torch.zeros(after), _FIRST_BIAS_STEP)
        self._groups = groups
        self._padding = kernel // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight(), self.bias(), padding=self._padding, groups=self._groups)


class ResidualBlock(nn.Module):
    """Depthwise 3x3, expansion, GELU, projection, added to the input."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = QuantisedConv(width, width, BLOCK_KERNEL, groups=width)
        self.expand = QuantisedConv(width, width * expansion, gain=math.sqrt(2))
        self.project = QuantisedConv(width * expansion, width, gain=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.project(F.gelu(self.expand(self.depthwise(x))))
        return result


class GridNetwork(nn.Module):
    """From one latent tensor [N, C, rows, columns] a level to pictures [N, 3, H, W], about 0..1 and not clamped."""

    def __init__(self, structure: GridStructure) -> None:
        super().__init__()
        widths = structure.widths
        self._strides = structure.strides
        self._shuffle = structure.strides[-1]
        levels = zip(structure.level_channels, widths, structure.blocks, strict=True)
        self.inputs = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for channels, width, blocks in levels:
            self.inputs.append(QuantisedConv(channels, width))
            self.blocks.append(nn.Sequential(*[ResidualBlock(width, structure.expansion) for _ in range(blocks)]))
        self.enlarge = nn.ModuleList(QuantisedConv(before, after) for before, after in pairwise(widths))
        self.head = QuantisedConv(widths[-1], 3 * structure.strides[-1] ** 2, HEAD_KERNEL, gain=0.5)

    def forward(self, latents: Sequence[torch.Tensor]) -> torch.Tensor:
        """Pictures at full size, or at that of the head after :meth:`reduce`."""
        return F.pixel_shuffle(self.head(self.features(latents)), self._shuffle) + 0.5

    def reduce(self, factor: int) -> None:
        """Make pictures ``factor`` times smaller: block averages, computed by a smaller head. For frozen networks."""
        side = self._shuffle // factor
        for tensor in (self.head.weight, self.head.bias):
            rows = tensor().unflatten(0, (3, side, factor, side, factor)).mean(dim=(2, 4)).flatten(0, 2)
            tensor.freeze(rows.contiguous())
        self._shuffle = side

    def features(self, latents: Sequence[torch.Tensor]) -> torch.Tensor:
        """[N, C, rows, columns] at the finest level, before the head."""
        x = self.blocks[0](self.inputs[0](latents[0]))
        for level in range(1, len(self._strides)):
            # a 1x1 convolution and bilinear enlargement commute; the small side is cheaper
            factor = self._strides[level - 1] // self._strides[level]
            coarse = F.interpolate(self.enlarge[level - 1](x), scale_factor=factor, mode="bilinear")
            x = self.blocks[level](coarse + self.inputs[level](latents[level]))
        result: torch.Tensor = x
        return result

    def tensors(self) -> dict[str, Quantised]:
        """What a file stores, by name, in file order."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Quantised)}

    def bits(self, *, rounded: bool = False) -> torch.Tensor:
        """The estimated size of all tensors."""
        return torch.stack([tensor.bits(rounded=rounded) for tensor in self.tensors().values()]).sum()


def frozen_network(structure: GridStructure, values: Sequence[torch.Tensor]) -> GridNetwork:
    """A network that uses ``values``, in file order, and has nothing to fit."""
    with torch.device("meta"):
        network = GridNetwork(structure)
    for tensor, value in zip(network.tensors().values(), values, strict=True):
        layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
        tensor.freeze(value.contiguous(memory_format=layout))
    return network.eval()
