"""The network of ``gridnerv``: latents of several resolutions in, pictures out.

Coarse to fine: every level adds a projection of its latents to the bilinearly enlarged features of the level before and
refines the sum with depthwise-separable residual blocks. Most work is done at the finest level, a quarter of the
picture's resolution by default; one projection there makes the picture, 3 x stride x stride samples a cell.

Tensors have their channels last, [N, rows, columns, C], which makes every 1x1 convolution a product of matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from .grid_structure import BLOCK_KERNEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .grid_structure import GridStructure

__all__ = ["make_pictures", "reduced_head"]


def make_pictures(
    structure: GridStructure, weights: Mapping[str, torch.Tensor], latents: Sequence[torch.Tensor]
) -> torch.Tensor:
    """One latent tensor [N, rows, columns, C] a level -> pictures [N, H, W, 3], about 0..1 and not clamped.

    ``weights`` are the tensors of :func:`grid_weights.tensor_specs`; a smaller head makes smaller pictures.
    """
    x = _blocks(structure, weights, 0, _linear(weights, "input0", latents[0]))
    for level in range(1, len(structure.strides)):
        factor = structure.strides[level - 1] // structure.strides[level]
        # a 1x1 convolution and bilinear enlargement commute; the small side is cheaper
        coarse = _enlarged(_linear(weights, f"enlarge{level - 1}", x), factor)
        x = _blocks(structure, weights, level, coarse + _linear(weights, f"input{level}", latents[level]))
    return _unfolded(_linear(weights, "head", x)) + 0.5


def reduced_head(structure: GridStructure, weights: Mapping[str, torch.Tensor], factor: int) -> dict[str, torch.Tensor]:
    """``weights`` with a head that makes block averages of ``factor`` x ``factor`` pixels."""
    side = structure.strides[-1] // factor
    changed = dict(weights)
    for name in ("head.weight", "head.bias"):
        samples = weights[name].unflatten(0, (side, factor, side, factor, 3))
        changed[name] = samples.mean(dim=(1, 3)).flatten(0, 2).contiguous()
    return changed


def _blocks(structure: GridStructure, weights: Mapping[str, torch.Tensor], level: int, x: torch.Tensor) -> torch.Tensor:
    """The residual blocks of a level: depthwise 3x3, expansion, GELU, projection, added to the input."""
    for block in range(structure.blocks[level]):
        near = _depthwise(weights, f"depthwise{level}.{block}", x)
        inner = F.gelu(_linear(weights, f"expand{level}.{block}", near))
        x = x + _linear(weights, f"project{level}.{block}", inner)
    return x


def _linear(weights: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _depthwise(weights: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    result = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=BLOCK_KERNEL // 2, groups=len(weight))
    return result.permute(0, 2, 3, 1)


def _enlarged(x: torch.Tensor, factor: int) -> torch.Tensor:
    result: torch.Tensor = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=factor, mode="bilinear")
    return result.permute(0, 2, 3, 1)


def _unfolded(cells: torch.Tensor) -> torch.Tensor:
    """[N, rows, columns, side * side * 3] -> [N, rows * side, columns * side, 3]."""
    side = round((cells.shape[-1] // 3) ** 0.5)
    blocks: torch.Tensor = cells.unflatten(3, (side, side, 3))  # [N, rows, columns, y, x, colour]
    return blocks.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3)
