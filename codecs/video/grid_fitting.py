"""Fitting one segment, and landing on a target size."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ...formats.errors import InvalidParameter
from .checkpoint import fingerprint, load_result, save_result
from .fitting import FitSettings, fit
from .grid_bitstream import pack_latents, pack_network
from .grid_objective import GridObjective, RateAim

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..run_context import RunContext
    from .grid_file import GridHeader
    from .grid_parameters import GridParameters

__all__ = ["EncodedSegment", "fit_segment"]

_TOLERANCE = 0.02  # the promise is 3 % of the file
_PROMISE = 0.03
_LANDINGS = 4  # shorter fits that correct the size
_LANDING_SHARE = 6
_LANDING_RATE = 0.3
_FIRST_LAMBDA = 2e-3  # at one bit per pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSegment:
    """A segment's chunks, and the size in bits that its fit believed in."""

    network: bytes
    latents: bytes
    estimated_bits: float

    @property
    def bits(self) -> int:
        """The size of both chunks' payloads."""
        return 8 * (len(self.network) + len(self.latents))


def fit_segment(
    pictures: NDArray[np.uint8],
    header: GridHeader,
    params: GridParameters,
    target_bits: float | None,
    context: RunContext,
) -> EncodedSegment:
    """Fit the frames ``pictures`` and pack them; take the result of an earlier run where it is kept.

    Raises :class:`InvalidParameter` when ``target_bits`` cannot be reached, naming the nearest size.
    """
    settings = {**asdict(params), "target_bits": target_bits}
    identity = fingerprint(pictures, settings)
    folder = context.checkpoint_folder
    if folder is not None and context.resume:
        kept = load_result(folder, identity)
        if kept is not None:
            return EncodedSegment(
                network=kept["network"], latents=kept["latents"], estimated_bits=float(kept["estimate"])
            )
    result = _fit(pictures, header, params, target_bits, context, {"segment": identity})
    if folder is not None:
        estimate = repr(result.estimated_bits).encode()
        save_result(folder, {"network": result.network, "latents": result.latents, "estimate": estimate}, identity)
    return result


def _fit(
    pictures: NDArray[np.uint8],
    header: GridHeader,
    params: GridParameters,
    target_bits: float | None,
    context: RunContext,
    identity: dict[str, object],
) -> EncodedSegment:
    settings = FitSettings(
        epochs=params.epochs, batch=params.batch, seed=params.seed, precision=params.precision, warm_up=0.05
    )
    aim = _aim(params, target_bits, pictures.size / 3)

    def fresh(device: torch.device) -> GridObjective:
        return GridObjective(
            header.structure,
            pictures,
            lr=params.lr,
            latent_lr=params.latent_lr,
            aim=aim,
            seed=params.seed,
            device=device,
        )

    objective = fit(fresh, pictures, settings, _in_folder(context, "fit"), identity=identity)
    result = _packed(objective)
    if target_bits is None:
        return result
    objective.slow_down(_LANDING_RATE)
    landing = replace(settings, epochs=max(params.epochs // _LANDING_SHARE, 4))
    best = result
    for number in range(_LANDINGS):
        if abs(result.bits / target_bits - 1) <= _TOLERANCE:
            return result
        objective.correct(result.bits)
        fit(lambda _: objective, pictures, landing, _in_folder(context, f"landing-{number}"), identity=identity)
        result = _packed(objective)
        best = min(best, result, key=lambda some: abs(some.bits - target_bits))
    if abs(best.bits / target_bits - 1) > _PROMISE:
        raise InvalidParameter(
            f"{len(pictures)} frames were to take {target_bits / 8:,.0f} bytes; the nearest that this network and "
            f"these grids reached is {best.bits / 8:,.0f} bytes, {best.bits / (pictures.size / 3):.4f} bits per "
            "pixel; choose that, other grids or widths, or more epochs"
        )
    return best


def _aim(params: GridParameters, target_bits: float | None, pixels: float) -> RateAim:
    if target_bits is None:
        return RateAim(lmbda=params.lmbda)
    return RateAim(lmbda=_FIRST_LAMBDA * pixels / target_bits, target_bits=target_bits)


def _packed(objective: GridObjective) -> EncodedSegment:
    return EncodedSegment(
        network=pack_network(objective.weights),
        latents=pack_latents(objective.latents),
        estimated_bits=objective.estimated_bits(),
    )


def _in_folder(context: RunContext, name: str) -> RunContext:
    folder = context.checkpoint_folder
    return context if folder is None else replace(context, checkpoint_folder=folder / name)
