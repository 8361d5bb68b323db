"""Fitting a network to a clip: Adam over an objective, with resumable state and a way out of divergence."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch

from ...formats.errors import Cancelled, InvalidParameter
from .checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from .cuda_graph import GraphedGradients
from .frame_gradients import set_gradients
from .frame_workers import FrameWorkers
from .objective import Objective
from .torch_runtime import choose_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ..run_context import RunContext
    from .torch_runtime import Precision

__all__ = ["FitSettings", "fit", "learning_rate_factor"]

Goal = TypeVar("Goal", bound=Objective)

_FIRST_FACTOR = 0.1
_SAVE_SECONDS = 60.0
_PROBES = 2
_RESTARTS = 3
_SNAPSHOTS = 20  # states kept in memory in turn over a fit, to restart from


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What steers a fit, beside the objective and the pictures. ``warm_up`` is a share of all steps."""

    epochs: int
    batch: int
    seed: int
    precision: Precision
    warm_up: float = 0.1


def fit(
    make_objective: Callable[[torch.device], Goal],
    pictures: NDArray[np.uint8],
    settings: FitSettings,
    context: RunContext,
    *,
    identity: dict[str, object],
) -> Goal:
    """Minimise an objective over the frames ``pictures``, uint8 [T, H, W, 3]; return it in evaluation mode.

    Every epoch visits the frames in an order drawn from seed and epoch, in whole batches. Work done is kept in
    ``context.checkpoint_folder``; ``identity`` names what else a resumed fit must agree on. Where the loss stops being
    finite, the fit goes back to an earlier state and on with half the learning rate, three times at most.

    Raises :class:`Cancelled` (after saving), :class:`InvalidParameter` when the fit diverges for good.
    """
    device = context.torch_device()
    with FrameWorkers(context.threads, device) as workers:
        torch.manual_seed(settings.seed)
        run = _Run(make_objective(torch.device(device)), len(pictures), settings, context, device, workers)
        run.identity = fingerprint(pictures, {**identity, **asdict(settings)})
        run.resume()
        run.train()
    run.objective.eval()
    return run.objective


def learning_rate_factor(progress: float, warm_up: float = 0.1) -> float:
    """The learning rate at ``progress`` in 0..1 over its peak: a tenth rising to one, then half a cosine."""
    if progress < warm_up:
        return _FIRST_FACTOR + (1 - _FIRST_FACTOR) * progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


class _Run(Generic[Goal]):
    """One fit under way."""

    identity: str

    def __init__(
        self,
        objective: Goal,
        frames: int,
        settings: FitSettings,
        context: RunContext,
        device: str,
        workers: FrameWorkers,
    ) -> None:
        self.objective = objective
        self._frames = frames
        self._workers = workers
        self._settings = settings
        self._context = context
        self._device = device
        self._dtype = choose_precision(settings.precision, device)
        self._batch = min(settings.batch, frames)
        self._steps_per_epoch = frames // self._batch
        self._total = settings.epochs * self._steps_per_epoch
        groups = objective.parameter_groups()
        self._peaks = [rate for _, rate in groups]
        self._parameters = [parameter for group, _ in groups for parameter in group]
        self._names: dict[torch.Tensor, str] = {parameter: name for name, parameter in objective.named_parameters()}
        self._optimiser = torch.optim.Adam(
            [{"params": group, "lr": rate} for group, rate in groups], betas=objective.betas, fused=True
        )
        self._step = 0
        self._caution = 1.0
        self._restarts = 0
        self._snapshot: Checkpoint | None = None
        self._graphed: GraphedGradients | None = None

    def resume(self) -> None:
        """Continue from the checkpoint folder where the caller asks for it."""
        folder = self._context.checkpoint_folder
        if folder is None or not self._context.resume:
            return
        checkpoint = load_checkpoint(folder, self.identity)
        if checkpoint is None:
            self._context.warning(f"nothing to resume in {folder}: the fit starts from the beginning")
            return
        self._restore(checkpoint)

    def train(self) -> None:
        """All steps that are left."""
        self.objective.train()
        estimate = self._estimate_seconds()
        self._context.report("fitting", self._step, self._total, seconds_left=estimate)
        began, done, saved = time.monotonic(), 0, time.monotonic()
        try:
            while self._step < self._total:
                if self._step % max(self._total // _SNAPSHOTS, 1) == 0:
                    self._snapshot = self._state()
                figures = self._advance()
                done += 1
                now = time.monotonic()
                left = (now - began) / done * (self._total - self._step)
                if self._step % self._steps_per_epoch == 0 or self._device == "cpu":
                    self._report(figures, left)
                if now - saved > _SAVE_SECONDS:
                    self._save()
                    saved = now
        except Cancelled:
            self._save()
            raise

    def _report(self, figures: torch.Tensor, seconds_left: float) -> None:
        loss, squared_error = (float(value) for value in figures[:2])
        if not math.isfinite(loss):
            self._restart(loss)
            return
        psnr = -10 * math.log10(max(squared_error, 1e-10))
        self._context.report("fitting", self._step, self._total, psnr_db=psnr, seconds_left=seconds_left)

    def _restart(self, loss: float) -> None:
        """Go back to the last snapshot with half the learning rate."""
        self._restarts += 1
        if self._restarts > _RESTARTS or self._snapshot is None:
            rates = ", ".join(f"{rate:g}" for rate in self._peaks)
            raise InvalidParameter(
                f"the fit diverged at step {self._step} (loss {loss}) and again after {_RESTARTS} restarts at lower "
                f"learning rates (first {rates}); lower lr or change the seed"
            )
        caution = self._caution / 2
        self._context.warning(
            f"the fit diverged at step {self._step}: back to step {self._snapshot.step} with {caution:g} of the rate"
        )
        self._restore(self._snapshot)
        self._caution = caution

    def _advance(self) -> torch.Tensor:
        progress = self._step / self._total
        factor = self._caution * learning_rate_factor(progress, self._settings.warm_up)
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        epoch, position = divmod(self._step, self._steps_per_epoch)
        indices = self._order(epoch)[position * self._batch : (position + 1) * self._batch]
        figures = self._backward(indices)
        self._optimiser.step()
        self._drop_gradients()
        self._step += 1
        self.objective.after_step(self._step, self._total)
        return figures

    def _backward(self, indices: torch.Tensor) -> torch.Tensor:
        """Set the gradients of all parameters; return loss and figures."""
        bfloat16 = self._dtype == torch.bfloat16
        if self._device == "cuda" and self.objective.graphable:
            if self._graphed is None:
                self._graphed = GraphedGradients(self.objective, self._parameters, self._batch, bfloat16=bfloat16)
            return self._graphed(indices)
        if self._device != "cuda":
            return set_gradients(self.objective, indices, self._parameters, self._workers, bfloat16=bfloat16)
        loss, figures = self.objective.loss(indices, self.objective.stage(indices), bfloat16=bfloat16)
        loss.backward()
        return torch.stack([loss.detach(), *figures])

    def _drop_gradients(self) -> None:
        if self._graphed is None:  # which has them in fixed places and clears them itself
            self._optimiser.zero_grad(set_to_none=True)

    def _order(self, epoch: int) -> torch.Tensor:
        # drawn from seed and epoch alone, so that a resumed fit goes on with the same frames
        generator = np.random.default_rng([self._settings.seed, epoch])
        return torch.from_numpy(generator.permutation(self._frames)).to(self._device)

    def _estimate_seconds(self) -> float:
        """Time left judged by a few passes that change nothing."""
        indices = self._order(0)[: self._batch]
        began = time.monotonic()
        for number in range(_PROBES + 1):
            self._context.check_cancelled()
            self._backward(indices)
            self._drop_gradients()
            if self._device == "cuda":
                torch.cuda.synchronize()
            if number == 0:
                began = time.monotonic()  # the first pass also sets the libraries up
        return (time.monotonic() - began) / _PROBES * (self._total - self._step)

    def _state(self) -> Checkpoint:
        """A copy of everything that changes."""
        states = {self._names[value]: state for value, state in self._optimiser.state.items()}
        return Checkpoint(
            step=self._step,
            caution=self._caution,
            parameters={name: value.detach().clone() for name, value in self.objective.state_dict().items()},
            first_moments={name: state["exp_avg"].clone() for name, state in states.items()},
            second_moments={name: state["exp_avg_sq"].clone() for name, state in states.items()},
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.objective.load_state_dict(checkpoint.parameters)
        self._optimiser.state.clear()
        for parameter, name in self._names.items():
            if name in checkpoint.first_moments:
                self._optimiser.state[parameter] = {
                    "step": torch.tensor(float(checkpoint.step), device=self._device),
                    "exp_avg": _like(checkpoint.first_moments[name], parameter),
                    "exp_avg_sq": _like(checkpoint.second_moments[name], parameter),
                }
        self._step = checkpoint.step
        self._caution = checkpoint.caution

    def _save(self) -> None:
        if self._context.checkpoint_folder is not None:
            save_checkpoint(self._context.checkpoint_folder, self._state(), self.identity)


def _like(saved: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """``saved`` on the device and in the memory layout of ``parameter``."""
    return torch.empty_like(parameter, requires_grad=False).copy_(saved)
