"""What NeRV++ fits: either of its variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from .autoencoder import Autoencoder, embed
from .clip_settings import stride_list
from .fitting import FitSettings, fit
from .frame_decoder import FrameDecoder
from .hnerv_network import make_encoder
from .hnerv_structure import choose_strides
from .nervpp_structure import fit_widths
from .network_encoding import Fitted
from .objective import PictureObjective
from .similarity import absolute_and_structural
from .torch_runtime import use_channels_last

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ..run_context import RunContext
    from .nervpp_parameters import NeRVPlusPlusParameters
    from .nervpp_structure import NeRVPlusPlusStructure
    from .source_frames import Clip

__all__ = ["NeRVPlusPlusFit"]

_PAPER_LEAST_WIDTH = 80
_PAPER_HIDDEN = 512
_PAPER_REDUCTION = 2
_LOSSES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1-ssim": absolute_and_structural,
    "mse": F.mse_loss,
}


@dataclass(frozen=True, slots=True)
class NeRVPlusPlusFit:
    """NeRV++ for :func:`.network_encoding.encode`."""

    params: NeRVPlusPlusParameters

    def structure(self, *, frames: int, height: int, width: int) -> NeRVPlusPlusStructure:
        """The widest network of the variant within the model size."""
        params = self.params
        strides = choose_strides(height, width) if params.strides == "auto" else stride_list(params.strides)
        paper = params.variant == "paper"

        def widths(first: int) -> tuple[int, ...]:
            return _paper_widths(first, len(strides)) if paper else self._tapered_widths(first, len(strides))

        return fit_widths(
            widths,
            height=height,
            width=width,
            frames=frames,
            strides=strides,
            kernels=[3 if paper else 1] * len(strides),
            embedding=0 if paper else params.embedding,
            hidden=_PAPER_HIDDEN if paper else 0,
            expansion=params.expansion,
            model_size=params.model_size,
        )

    def fit(self, clip: Clip, structure: NeRVPlusPlusStructure, context: RunContext) -> Fitted:
        """Fit the decoder, and with embeddings the encoder that makes them."""
        params = self.params
        settings = FitSettings(
            epochs=params.epochs,
            batch=params.batch,
            seed=params.seed,
            precision=params.precision,
            warm_up=params.warm_up,
        )
        identity = {
            "network": structure.as_json(),
            "encoder_width": params.encoder_width,
            "lr": params.lr,
            "loss": params.chosen_loss,
        }
        pictures, picture = clip.pictures, structure.picture
        distortion = _LOSSES[params.chosen_loss]

        def by_time(device: torch.device) -> _TimeObjective:
            decoder = use_channels_last(structure.make_decoder().to(device))
            return _TimeObjective(decoder, pictures, picture, lr=params.lr, distortion=distortion, device=device)

        def by_embedding(device: torch.device) -> PictureObjective[Autoencoder]:
            encoder = make_encoder(structure.strides, params.encoder_width, params.embedding)
            model = use_channels_last(Autoencoder(encoder, structure.make_decoder()).to(device))
            return PictureObjective(model, pictures, picture, lr=params.lr, distortion=distortion, device=device)

        if structure.embedding_shape is None:
            return Fitted(decoder=fit(by_time, pictures, settings, context, identity=identity).model, embeddings=None)
        model = fit(by_embedding, pictures, settings, context, identity=identity).model
        return Fitted(decoder=model.decoder, embeddings=embed(model.encoder, pictures, picture, context))

    def _tapered_widths(self, first: int, stages: int) -> tuple[int, ...]:
        """Channels that shrink by the same factor from stage to stage, as HNeRV's do."""
        widths = [first]
        for _ in range(stages):
            widths.append(max(round(widths[-1] / self.params.reduce), self.params.lower_width))
        return tuple(widths)


class _TimeObjective(PictureObjective[FrameDecoder]):
    """A decoder that knows frames by their number alone."""

    def __init__(
        self,
        model: FrameDecoder,
        pictures: NDArray[np.uint8],
        padded: tuple[int, int],
        *,
        lr: float,
        distortion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        device: torch.device,
    ) -> None:
        super().__init__(model, pictures, padded, lr=lr, distortion=distortion, device=device)
        self._encodings = model.inputs(len(pictures), None).to(device)

    def reconstruct(self, indices: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        del batch
        result: torch.Tensor = self.model(self._encodings[indices])
        return result


def _paper_widths(first: int, stages: int) -> tuple[int, ...]:
    """As the published commands have it: the first stage keeps the stem's width, later ones halve it down to 80."""
    widths = [first, first]
    for _ in range(stages - 1):
        widths.append(max(widths[-1] // _PAPER_REDUCTION, _PAPER_LEAST_WIDTH))
    return tuple(widths)
