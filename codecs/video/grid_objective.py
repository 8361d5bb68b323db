"""Rate and distortion of a segment: what the fit of ``gridnerv`` minimises, and how a target size is held."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .grid_network import make_pictures
from .grid_weights import GridWeights, by_name, tensor_specs
from .latent_grids import LatentGrids
from .objective import Figures, Objective, Staged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from .grid_bitstream import ScaledIntegers
    from .grid_structure import GridStructure

__all__ = ["GridObjective", "RateAim"]

_CONTROL_POINTS = 80  # times a fit looks at its size
_FIRST_CONTROL = 0.1
_RESPONSE = 0.25  # the size follows late, a stronger one would swing
_LARGEST_CHANGE = 1.25
_LAMBDA_RANGE = (1e-7, 1e3)
_STEP_RATE = 8.0  # learning rate of steps and gains, times that of weights
_SMALLEST_HALF = 2.0**-24
_REFIT_STEPS = 8  # at least so many steps between two choices of scales


@dataclass(frozen=True, slots=True, kw_only=True)
class RateAim:
    """Either a fixed multiplier of the rate in bits per pixel, or a size in bits that is to be reached."""

    lmbda: float
    target_bits: float | None = None


class GridObjective(Objective):
    """Mean squared error of samples in 0..1, plus lambda times bits per pixel, of one segment.

    With ``visible`` [T, H, W], True where a picture counts, errors elsewhere cost nothing.
    """

    betas = (0.9, 0.97)
    graphable = True

    def __init__(
        self,
        structure: GridStructure,
        pictures: NDArray[np.uint8],
        *,
        lr: float,
        latent_lr: float,
        aim: RateAim,
        seed: int,
        device: torch.device,
        visible: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__()
        frames = len(pictures)
        self.structure = structure
        self.weights = GridWeights(structure, torch.Generator().manual_seed(seed)).to(device)
        self.latents = LatentGrids(structure, frames).to(device)
        self.log_lambda: torch.Tensor
        self.register_buffer("log_lambda", torch.tensor(math.log(aim.lmbda), dtype=torch.float64))
        self._pictures = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
        self._visible = None if visible is None else torch.from_numpy(visible).to(device)
        self._visible_share = 1.0 if visible is None else max(float(visible.mean()), 1e-6)
        self._pixels = frames * pictures.shape[1] * pictures.shape[2]
        self._rates = (lr, latent_lr)
        self._aim = aim
        self._pace = 1.0
        self._allowance = 1.0  # what is to be reached over what is aimed at: sizes fall while a fit calms down
        self._device_type = device.type

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        lr, latent_lr = (rate * self._pace for rate in self._rates)
        return [
            (list(self.latents.values), latent_lr),
            ([self.weights.values], lr),
            ([self.weights.log_steps, *self.latents.log_gains], lr * _STEP_RATE),
        ]

    def stage(self, indices: torch.Tensor) -> Staged:
        values, bits = self.weights()
        cost = self.log_lambda.exp().float() * bits / self._pixels
        return Staged((values, cost, *self.latents.log_gains), tuple(self.latents.keys_of(indices)))

    def loss(self, indices: torch.Tensor, staged: Staged, *, bfloat16: bool) -> tuple[torch.Tensor, Figures]:
        values, network_cost, *gains = staged.shared
        latents, bits = self.latents(indices, staged.per_frame, gains)
        with torch.autocast(self._device_type, torch.bfloat16, enabled=bfloat16):
            output = make_pictures(self.structure, by_name(self.structure, values), latents)
        height, width = self._pictures.shape[1:3]
        squared = (output[:, :height, :width].float() - self._pictures[indices] / 255).square()
        if self._visible is not None:
            squared = squared * (self._visible[indices].unsqueeze(-1) / self._visible_share)
        distortion = squared.mean()
        share = len(self._pictures) / len(indices) / self._pixels
        loss = distortion + self.log_lambda.exp().float() * bits * share + network_cost
        return loss, (distortion.detach(),)

    def after_step(self, step: int, total: int) -> None:
        """Choose scales anew once an epoch; where a size is aimed at, change lambda by how far the estimate is off."""
        target = self._aim.target_bits
        controlled = target is not None and step >= total * _FIRST_CONTROL
        if target is not None and controlled and step % max(total // _CONTROL_POINTS, 1) == 0:
            change = (self._allowance * self.estimated_bits() / target) ** _RESPONSE
            limited = min(max(change, 1 / _LARGEST_CHANGE), _LARGEST_CHANGE)
            low, high = (math.log(bound) for bound in _LAMBDA_RANGE)
            self.log_lambda.add_(math.log(limited)).clamp_(low, high)
        elif step % max(len(self._pictures) // 2, _REFIT_STEPS) == 0:
            self.latents.refit_scales()

    @torch.no_grad()
    def start_from(self, weights: ScaledIntegers, grids: Sequence[ScaledIntegers]) -> None:
        """Take over the state of a file."""
        sizes = [spec.size for spec in tensor_specs(self.structure)]
        steps = torch.from_numpy(weights.scale.astype(np.float32)).split(sizes)
        self.weights.log_steps.copy_(torch.log(torch.stack([step[0] for step in steps]).clamp(min=_SMALLEST_HALF)))
        self.weights.values.copy_(torch.from_numpy(weights.values()))
        for values, log_gain, grid in zip(self.latents.values, self.latents.log_gains, grids, strict=True):
            values.copy_(torch.from_numpy(grid.levels.astype(np.float32)))
            log_gain.copy_(torch.log(torch.from_numpy(grid.scale).view_as(log_gain).clamp(min=_SMALLEST_HALF)))
        self.latents.refit_scales()

    def slow_down(self, factor: float) -> None:
        """Lower all peak learning rates, for a shorter fit that goes on from here."""
        self._pace *= factor

    def correct(self, written_bits: float) -> None:
        """Aim higher or lower in the next fit by half of what this one, which ended with ``written_bits``, is off."""
        if self._aim.target_bits is not None:
            self._allowance *= math.sqrt(written_bits / self._aim.target_bits)

    def estimated_bits(self) -> float:
        """The rate that the fit believes in: whole values under scales chosen for them, side data included."""
        return self.latents.refit_scales() + self.weights.coded().bits
