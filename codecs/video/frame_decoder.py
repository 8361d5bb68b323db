"""The decoder networks that a file carries, and what they are given for each frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from .network_structure import NetworkStructure

__all__ = ["FrameDecoder", "parameter_shapes"]


class FrameDecoder(nn.Module):
    """Makes pictures [N, 3, H, W] in 0..1 from :meth:`inputs`; its parameters, in order, are what a file stores."""

    def inputs(self, frames: int, embeddings: torch.Tensor | None) -> torch.Tensor:
        """What tells each of ``frames`` frames apart, float32 [T, C, rows, columns]; the embeddings by default."""
        if embeddings is None or len(embeddings) != frames:
            raise ValueError(f"this decoder needs the embeddings of {frames} frames")
        return embeddings


def parameter_shapes(structure: NetworkStructure) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the decoder's parameters in file order, without allocating them."""
    with torch.device("meta"):
        decoder = structure.make_decoder()
    shapes = {name: tuple(value.shape) for name, value in decoder.named_parameters()}
    if sum(math.prod(shape) for shape in shapes.values()) != structure.decoder_parameters:
        raise RuntimeError("the structure and the network count parameters differently")
    return shapes
