"""What HNeRV fits: its network, by mean squared error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F

from .autoencoder import Autoencoder, embed
from .clip_settings import stride_list
from .fitting import FitSettings, fit
from .hnerv_network import hnerv
from .hnerv_structure import choose_strides, make_structure, padded_size
from .network_encoding import Fitted
from .objective import PictureObjective
from .torch_runtime import use_channels_last

if TYPE_CHECKING:
    import torch

    from ..run_context import RunContext
    from .hnerv_parameters import HNeRVParameters
    from .hnerv_structure import Structure
    from .source_frames import Clip

__all__ = ["HNeRVFit"]


@dataclass(frozen=True, slots=True)
class HNeRVFit:
    """HNeRV for :func:`.network_encoding.encode`."""

    params: HNeRVParameters

    def structure(self, *, frames: int, height: int, width: int) -> Structure:
        """The network whose decoder and embeddings have the parameters' model size."""
        params = self.params
        strides = choose_strides(height, width) if params.strides == "auto" else stride_list(params.strides)
        padded = padded_size(height, width, strides)
        total = math.prod(strides)
        values = params.embedding * (padded[0] // total) * (padded[1] // total)
        return make_structure(
            width=width,
            height=height,
            frames=frames,
            strides=strides,
            model_size=params.total_size(frames, values),
            embedding=params.embedding,
            reduce=params.reduce,
            lower_width=params.lower_width,
        )

    def fit(self, clip: Clip, structure: Structure, context: RunContext) -> Fitted:
        """Fit encoder and decoder by the mean squared error."""
        params = self.params
        settings = FitSettings(epochs=params.epochs, batch=params.batch, seed=params.seed, precision=params.precision)

        def objective(device: torch.device) -> PictureObjective[Autoencoder]:
            model = use_channels_last(hnerv(structure, encoder_width=params.encoder_width).to(device))
            return PictureObjective(
                model, clip.pictures, structure.picture, lr=params.lr, distortion=F.mse_loss, device=device
            )

        identity = {"network": structure.as_json(), "encoder_width": params.encoder_width, "lr": params.lr}
        model = fit(objective, clip.pictures, settings, context, identity=identity).model
        return Fitted(decoder=model.decoder, embeddings=embed(model.encoder, clip.pictures, structure.picture, context))
