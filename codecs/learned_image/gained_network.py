"""CompressAI's networks under training, with one gain per channel and quality level (Cui et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["GainedNetwork", "Outcome", "first_gain"]


def first_gain(weight: float) -> float:
    """The gain that is best for ``weight``, the lambda of a level, at high rates and with orthonormal transforms.

    There the slope of rate over distortion is -1 / (2 ln 2 D), and D is a twelfth of the squared step.
    """
    return math.sqrt(2 * math.log(2) * 255**2 * weight / 12)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Bits per pixel and mean square error (of values 0 to 1) of each picture of a batch, float ``[batch]``."""

    bpp: torch.Tensor
    mse: torch.Tensor


class GainedNetwork(torch.nn.Module):
    """A CompressAI model whose latents are multiplied by a level's gains before rounding, and by others after.

    One network so serves several rates: between two levels the logarithms of the gains are interpolated.
    """

    def __init__(self, model: Any, lambdas: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        first = torch.tensor([first_gain(one) for one in lambdas]).log()[:, None].repeat(1, model.M)
        self.log_gains = torch.nn.Parameter(first.clone())
        self.log_inverse_gains = torch.nn.Parameter(-first)

    def forward(self, pictures: torch.Tensor, levels: torch.Tensor, *, rounded: bool = False) -> Outcome:
        """Rate and distortion of ``pictures`` ``[batch, 3, height, width]``, each at its level, int64 ``[batch]``.

        With uniform noise for rounding, as in Ballé et al. 2018, unless ``rounded``.
        """
        low = torch.autocast(pictures.device.type, dtype=torch.bfloat16, enabled=not rounded)
        with low:
            latents = self.model.g_a(pictures)
        latents = latents.float() * self.log_gains[levels].exp()[:, :, None, None]
        with low:
            coded, likelihoods = self._coded(latents)
            rebuilt = self.model.g_s(coded * self.log_inverse_gains[levels].exp()[:, :, None, None])
        pixels = pictures.shape[2] * pictures.shape[3]
        bits = torch.stack([-likelihood.log2().flatten(1).sum(1) for likelihood in likelihoods]).sum(0)
        return Outcome(bits / pixels, (rebuilt.float() - pictures).square().flatten(1).mean(1))

    def _coded(self, latents: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The latents with noise or rounded, and the likelihoods of all that is coded."""
        if not hasattr(self.model, "h_s"):
            with torch.autocast(latents.device.type, enabled=False):
                coded, likelihood = self.model.entropy_bottleneck(latents)
            return coded, [likelihood]
        mean_scale = self.model.h_s[-1].__class__.__name__ != "ReLU"
        side = self.model.h_a(latents if mean_scale else latents.abs())
        with torch.autocast(latents.device.type, enabled=False):
            coded_side, side_likelihood = self.model.entropy_bottleneck(side.float())
        parameters = self.model.h_s(coded_side).float()
        scales, means = parameters.chunk(2, 1) if mean_scale else (parameters, None)
        with torch.autocast(latents.device.type, enabled=False):
            coded, likelihood = self.model.gaussian_conditional(latents, scales, means=means)
        return coded, [side_likelihood, likelihood]
