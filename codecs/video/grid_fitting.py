"""Fitting one segment, and landing on a target size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...formats.errors import InvalidParameter
from .checkpoint import load_result, save_result
from .fitting import FitSettings, fit
from .grid_bitstream import pack_latents, pack_network, unpack_latents, unpack_network
from .grid_objective import GridObjective, RateAim
from .grid_segment import EncodedSegment

if TYPE_CHECKING:
    import torch

    from ..run_context import RunContext
    from .grid_file import GridHeader
    from .grid_parameters import GridParameters
    from .grid_segment import SegmentTask

__all__ = ["fit_segment"]

_TOLERANCE = 0.01  # the promise is 3 % of the file
_PROMISE = 0.025
_LANDINGS = 5  # shorter fits that correct the size
_LANDING_SHARE = 6
_LANDING_STEPS = 100  # at least
_LANDING_RATE = 0.3
_FIRST_LAMBDA = 2e-3  # at one bit per pixel
_LATE_RATE = 0.5  # of the peak learning rates, for a fit that goes on from an earlier one


def fit_segment(task: SegmentTask, header: GridHeader, params: GridParameters, context: RunContext) -> EncodedSegment:
    """Fit a segment and pack it; take the result of an earlier run where it is kept.

    Raises :class:`InvalidParameter` when the target size cannot be reached, naming the nearest.
    """
    identity = task.identity(params)
    folder = context.checkpoint_folder
    if folder is not None and context.resume:
        kept = load_result(folder, identity)
        if kept is not None:
            return EncodedSegment(
                network=kept["network"], latents=kept["latents"], estimated_bits=float(kept["estimate"])
            )
    result = _Fit(task, header, params, context, {"segment": identity}).run()
    if folder is not None:
        estimate = repr(result.estimated_bits).encode()
        save_result(folder, {"network": result.network, "latents": result.latents, "estimate": estimate}, identity)
    return result


@dataclass(frozen=True, slots=True)
class _Fit:
    task: SegmentTask
    header: GridHeader
    params: GridParameters
    context: RunContext
    identity: dict[str, object]

    def run(self) -> EncodedSegment:
        params, pictures = self.params, self.task.pictures
        settings = FitSettings(
            epochs=params.epochs, batch=params.batch, seed=params.seed, precision=params.precision, warm_up=0.05
        )
        objective = fit(self._fresh, pictures, settings, self._in_folder("fit"), identity=self.identity)
        if self.task.target_bits is None:
            return _packed(objective)
        return self._landed(objective, settings, self.task.target_bits)

    def _landed(self, objective: GridObjective, settings: FitSettings, target_bits: float) -> EncodedSegment:
        """Correct the size by short fits until it is the target's."""
        best = result = _packed(objective)
        objective.slow_down(_LANDING_RATE)
        steps_per_epoch = max(len(self.task.pictures) // settings.batch, 1)
        epochs = max(settings.epochs // _LANDING_SHARE, -(-_LANDING_STEPS // steps_per_epoch))
        landing = replace(settings, epochs=epochs)
        for number in range(_LANDINGS):
            if abs(result.bits / target_bits - 1) <= _TOLERANCE:
                return result
            objective.correct(result.bits)
            context = self._in_folder(f"landing-{number}")
            fit(lambda _: objective, self.task.pictures, landing, context, identity=self.identity)
            result = _packed(objective)
            best = min(best, result, key=lambda some: abs(some.bits - target_bits))
        if abs(best.bits / target_bits - 1) > _PROMISE:
            raise InvalidParameter(
                f"{len(self.task.pictures)} frames were to take {target_bits / 8:,.0f} bytes; the nearest that this "
                f"network and these grids reached is {best.bits / 8:,.0f} bytes, {best.bits / self.task.pixels:.4f} "
                "bits per pixel; choose that, other grids or widths, or more epochs"
            )
        return best

    def _fresh(self, device: torch.device) -> GridObjective:
        params, structure, start = self.params, self.header.structure, self.task.start
        objective = GridObjective(
            structure,
            self.task.pictures,
            lr=params.lr,
            latent_lr=params.latent_lr,
            aim=self._aim(),
            seed=params.seed,
            device=device,
            visible=self.task.visible,
        )
        if start is not None:
            frames = len(self.task.pictures)
            objective.start_from(unpack_network(start[0], structure), unpack_latents(start[1], structure, frames))
            objective.slow_down(_LATE_RATE)
        return objective

    def _aim(self) -> RateAim:
        target_bits = self.task.target_bits
        if target_bits is None:
            return RateAim(lmbda=self.params.lmbda)
        return RateAim(lmbda=_FIRST_LAMBDA * self.task.pixels / target_bits, target_bits=target_bits)

    def _in_folder(self, name: str) -> RunContext:
        folder = self.context.checkpoint_folder
        return self.context if folder is None else replace(self.context, checkpoint_folder=folder / name)


def _packed(objective: GridObjective) -> EncodedSegment:
    return EncodedSegment(
        network=pack_network(objective.weights),
        latents=pack_latents(objective.latents),
        estimated_bits=objective.estimated_bits(),
    )
