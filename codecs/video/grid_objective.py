"""Rate and distortion of a segment: what the fit of ``gridnerv`` minimises, and how a target size is held."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from .grid_network import GridNetwork
from .latent_grids import LatentGrids
from .objective import Figures, Objective, padded_batch
from .torch_runtime import use_channels_last

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .grid_structure import GridStructure

__all__ = ["GridObjective", "RateAim"]

_CONTROL_POINTS = 80  # times a fit looks at its size
_FIRST_CONTROL = 0.1
_RESPONSE = 0.7  # the rate falls about with the square root of the multiplier
_LARGEST_CHANGE = 1.6
_LAMBDA_RANGE = (1e-7, 1e3)
_STEP_RATE, _SCALE_RATE = 8.0, 0.1  # learning rates of steps (times that of weights) and of scale indices


@dataclass(frozen=True, slots=True, kw_only=True)
class RateAim:
    """Either a fixed multiplier of the rate in bits per pixel, or a size in bits that is to be reached."""

    lmbda: float
    target_bits: float | None = None


class GridObjective(Objective):
    """Mean squared error of samples in 0..1, plus lambda times bits per pixel, of one segment."""

    betas = (0.9, 0.99)

    def __init__(
        self,
        structure: GridStructure,
        pictures: NDArray[np.uint8],
        *,
        lr: float,
        latent_lr: float,
        aim: RateAim,
        device: torch.device,
    ) -> None:
        super().__init__()
        frames = len(pictures)
        self.network = use_channels_last(GridNetwork(structure).to(device))
        self.latents = LatentGrids(structure, frames).to(device)
        self.log_lambda: torch.Tensor
        self.register_buffer("log_lambda", torch.tensor(math.log(aim.lmbda), dtype=torch.float64))
        self._pictures = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
        self._padded = structure.picture
        self._pixels = frames * pictures.shape[1] * pictures.shape[2]
        self._rates = (lr, latent_lr)
        self._aim = aim
        self._pace = 1.0
        self._allowance = 1.0  # bits written per bit estimated
        self._device_type = device.type

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        lr, latent_lr = (rate * self._pace for rate in self._rates)
        tensors = self.network.tensors().values()
        steps = [*(tensor.log_step for tensor in tensors), *self.latents.log_gains]
        return [
            (list(self.latents.values), latent_lr),
            ([tensor.value for tensor in tensors], lr),
            (steps, lr * _STEP_RATE),
            (list(self.latents.scales), _SCALE_RATE * self._pace),
        ]

    def loss(self, indices: torch.Tensor, *, bfloat16: bool) -> tuple[torch.Tensor, Figures]:
        wanted = padded_batch(self._pictures[indices], self._padded)
        height, width = self._pictures.shape[1:3]
        latents, latent_bits = self.latents(indices.tolist())
        with torch.autocast(self._device_type, torch.bfloat16, enabled=bfloat16):
            output = self.network(latents)
        squared = (output[..., :height, :width].float() - wanted[..., :height, :width]).square()
        distortion = squared.mean()
        frames = len(self._pictures)
        bits = latent_bits / len(indices) * frames + self.network.bits()
        loss = distortion + float(self.log_lambda.exp()) * bits / self._pixels
        return loss, (distortion.detach(),)

    def after_step(self, step: int, total: int) -> None:
        """Where a size is aimed at, change lambda by how far the estimate is from it."""
        target = self._aim.target_bits
        if target is None or step < total * _FIRST_CONTROL or step % max(total // _CONTROL_POINTS, 1):
            return
        change = (self._allowance * self.estimated_bits() / target) ** _RESPONSE
        limited = min(max(change, 1 / _LARGEST_CHANGE), _LARGEST_CHANGE)
        low, high = (math.log(bound) for bound in _LAMBDA_RANGE)
        self.log_lambda.add_(math.log(limited)).clamp_(low, high)

    def slow_down(self, factor: float) -> None:
        """Lower all peak learning rates, for a shorter fit that goes on from here."""
        self._pace *= factor

    def correct(self, written_bits: float) -> None:
        """Take into account that a file of this state has ``written_bits``."""
        self._allowance = written_bits / self.estimated_bits()

    def estimated_bits(self) -> float:
        """The rate the training believes in: rounded values under their real-valued scales, side data included."""
        with torch.no_grad():
            return float(self.latents.bits() + self.network.bits(rounded=True))
