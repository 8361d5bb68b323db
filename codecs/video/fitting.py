"""Fitting a network to a clip: Adam, warm-up and cosine, as published for HNeRV, with resumable state."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ...formats.errors import Cancelled, InvalidParameter
from .checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from .frame_workers import FrameWorkers
from .torch_runtime import choose_precision, use_channels_last

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import nn

    from ..run_context import RunContext
    from .torch_runtime import Model, Precision

__all__ = ["FitSettings", "fit", "learning_rate_factor", "padded_batch"]

_WARM_UP = 0.1
_FIRST_FACTOR = 0.1
_SAVE_SECONDS = 60.0
_PROBES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What steers a fit, beside the network and the pictures."""

    epochs: int
    batch: int
    lr: float
    seed: int
    precision: Precision


def fit(
    make_model: Callable[[], Model],
    pictures: NDArray[np.uint8],
    padded: tuple[int, int],
    settings: FitSettings,
    context: RunContext,
    *,
    identity: dict[str, object],
) -> Model:
    """Fit an autoencoding model to ``pictures``, uint8 [T, H, W, 3], and return it in evaluation mode.

    Pictures are extended to ``padded`` (height, width) by repeating their edges; the loss, the mean squared error,
    counts the visible part only. Every epoch visits the frames in an order drawn from seed and epoch, in whole batches.
    Work done is kept in ``context.checkpoint_folder``; ``identity`` names what else a resumed fit must agree on.

    Raises :class:`Cancelled` (after saving), :class:`InvalidParameter` when the fit diverges.
    """
    device = context.torch_device()
    with FrameWorkers(context.threads, device) as workers:
        torch.manual_seed(settings.seed)
        model = use_channels_last(make_model().to(device))
        run = _Run(model, pictures, padded, settings, context, device, workers)
        run.identity = fingerprint(pictures, {**identity, **asdict(settings)})
        run.resume()
        run.train()
    model.eval()
    return model


def learning_rate_factor(progress: float) -> float:
    """The learning rate at ``progress`` in 0..1 over its peak: a tenth rising to one, then half a cosine."""
    if progress < _WARM_UP:
        return _FIRST_FACTOR + (1 - _FIRST_FACTOR) * progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def padded_batch(pictures: torch.Tensor, padded: tuple[int, int]) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, height, width] in 0..1, edges repeated, channels last in memory."""
    batch = pictures.permute(0, 3, 1, 2).float().div_(255)
    height, width = batch.shape[2:]
    if (height, width) == padded:
        return batch
    extended = F.pad(batch, (0, padded[1] - width, 0, padded[0] - height), mode="replicate")
    return extended.contiguous(memory_format=torch.channels_last)


class _Run:
    """One fit under way."""

    identity: str

    def __init__(
        self,
        model: nn.Module,
        pictures: NDArray[np.uint8],
        padded: tuple[int, int],
        settings: FitSettings,
        context: RunContext,
        device: str,
        workers: FrameWorkers,
    ) -> None:
        self._model = model
        self._parameters = list(model.parameters())
        self._workers = workers
        self._pictures = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
        self._padded = padded
        self._settings = settings
        self._context = context
        self._device = device
        self._dtype = choose_precision(settings.precision, device)
        self._batch = min(settings.batch, len(pictures))
        self._steps_per_epoch = len(pictures) // self._batch
        self._total = settings.epochs * self._steps_per_epoch
        self._optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
        self._step = 0

    def resume(self) -> None:
        """Continue from the checkpoint folder where the caller asks for it."""
        folder = self._context.checkpoint_folder
        if folder is None or not self._context.resume:
            return
        checkpoint = load_checkpoint(folder, self.identity)
        if checkpoint is None:
            self._context.warning(f"nothing to resume in {folder}: the fit starts from the beginning")
            return
        self._model.load_state_dict(checkpoint.parameters)
        for name, parameter in self._model.named_parameters():
            if name in checkpoint.first_moments:
                self._optimiser.state[parameter] = {
                    "step": torch.tensor(float(checkpoint.step), device=self._device),
                    "exp_avg": _like(checkpoint.first_moments[name], parameter),
                    "exp_avg_sq": _like(checkpoint.second_moments[name], parameter),
                }
        self._step = checkpoint.step

    def train(self) -> None:
        """All steps that are left."""
        self._model.train()
        estimate = self._estimate_seconds()
        self._context.report("fitting", self._step, self._total, seconds_left=estimate)
        began, first, saved = time.monotonic(), self._step, time.monotonic()
        order = self._order(self._step // self._steps_per_epoch)
        try:
            while self._step < self._total:
                position = self._step % self._steps_per_epoch
                if position == 0:
                    order = self._order(self._step // self._steps_per_epoch)
                loss = self._advance(order[position * self._batch : (position + 1) * self._batch])
                now = time.monotonic()
                left = (now - began) / (self._step - first) * (self._total - self._step)
                if self._step % self._steps_per_epoch == 0 or self._device == "cpu":
                    self._report(float(loss), left)
                if now - saved > _SAVE_SECONDS:
                    self._save()
                    saved = now
        except Cancelled:
            self._save()
            raise

    def _report(self, loss: float, seconds_left: float) -> None:
        if not math.isfinite(loss):
            raise InvalidParameter(
                f"the fit diverged at step {self._step} (loss {loss}); lower lr={self._settings.lr:g} "
                "or change the seed"
            )
        psnr = -10 * math.log10(max(loss, 1e-10))
        self._context.report("fitting", self._step, self._total, psnr_db=psnr, seconds_left=seconds_left)

    def _advance(self, indices: torch.Tensor) -> torch.Tensor:
        factor = learning_rate_factor(self._step / self._total)
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.lr * factor
        loss = self._backward(indices)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._step += 1
        return loss

    def _backward(self, indices: torch.Tensor) -> torch.Tensor:
        """Set the gradients of all parameters; return the loss. On a CPU frame by frame, summed in their order."""
        if self._device == "cuda":
            loss = self._loss(indices)
            loss.backward()
            return loss.detach()
        losses = []
        for loss, gradients in self._workers.map(self._gradients, indices.split(1)):
            losses.append(loss)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                share = gradient / len(indices)
                parameter.grad = share if parameter.grad is None else parameter.grad.add_(share)
        return torch.stack(losses).mean()

    def _gradients(self, indices: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = self._loss(indices)
        return loss.detach(), torch.autograd.grad(loss, self._parameters)

    def _loss(self, indices: torch.Tensor) -> torch.Tensor:
        batch = padded_batch(self._pictures[indices], self._padded)
        height, width = self._pictures.shape[1:3]
        with torch.autocast(self._device, torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            output = self._model(batch)
        return F.mse_loss(output[..., :height, :width].float(), batch[..., :height, :width])

    def _order(self, epoch: int) -> torch.Tensor:
        # drawn from seed and epoch alone, so that a resumed fit goes on with the same frames
        generator = np.random.default_rng([self._settings.seed, epoch])
        return torch.from_numpy(generator.permutation(len(self._pictures))).to(self._device)

    def _estimate_seconds(self) -> float:
        """Time left judged by a few passes that change nothing."""
        indices = self._order(0)[: self._batch]
        began = time.monotonic()
        for number in range(_PROBES + 1):
            self._context.check_cancelled()
            self._backward(indices)
            self._model.zero_grad(set_to_none=True)
            if self._device == "cuda":
                torch.cuda.synchronize()
            if number == 0:
                began = time.monotonic()  # the first pass also sets the libraries up
        return (time.monotonic() - began) / _PROBES * (self._total - self._step)

    def _save(self) -> None:
        folder = self._context.checkpoint_folder
        if folder is None:
            return
        named = dict(self._model.named_parameters())
        states = {name: self._optimiser.state[value] for name, value in named.items() if value in self._optimiser.state}
        checkpoint = Checkpoint(
            step=self._step,
            parameters=self._model.state_dict(),
            first_moments={name: state["exp_avg"] for name, state in states.items()},
            second_moments={name: state["exp_avg_sq"] for name, state in states.items()},
        )
        save_checkpoint(folder, checkpoint, self.identity)


def _like(saved: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """``saved`` on the device and in the memory layout of ``parameter``."""
    return torch.empty_like(parameter, requires_grad=False).copy_(saved)
