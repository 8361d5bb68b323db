"""A decoder fitted together with an encoder that makes its embeddings and is not stored (HNeRV, section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from .frame_workers import FrameWorkers
from .objective import padded_batch
from .torch_runtime import exact_float32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..run_context import RunContext
    from .frame_decoder import FrameDecoder

__all__ = ["Autoencoder", "embed"]


class Autoencoder(nn.Module):
    """Encoder and decoder. Pictures are float [N, 3, H, W] in 0..1."""

    def __init__(self, encoder: nn.Module, decoder: FrameDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Reconstruct pictures from themselves."""
        result: torch.Tensor = self.decoder(self.encoder(pictures))
        return result


def embed(
    encoder: nn.Module, pictures: NDArray[np.uint8], padded: tuple[int, int], context: RunContext
) -> NDArray[np.float32]:
    """The embeddings of ``pictures`` [T, H, W, 3] extended to ``padded``: float32 [T, C, rows, columns]."""
    device = context.torch_device()

    def embed_one(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = padded_batch(torch.from_numpy(picture[None]).to(device), padded)
        with torch.inference_mode(), exact_float32(device):
            embedding: NDArray[np.float32] = encoder(batch).float().cpu().contiguous().numpy()
        return embedding

    with FrameWorkers(context.threads, device) as workers:
        return np.concatenate(list(workers.map(embed_one, pictures)))
