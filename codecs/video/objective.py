"""What a fit minimises: a module whose loss is a mean over frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .torch_runtime import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Objective", "PictureObjective", "Staged", "padded_batch"]

Figures = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True)
class Staged:
    """Tensors that are made once a step, differentiable: ``shared`` by all frames, or with one row [N, ...] a frame."""

    shared: tuple[torch.Tensor, ...] = ()
    per_frame: tuple[torch.Tensor, ...] = ()


class Objective(nn.Module):
    """Parameters with their peak learning rates, and the loss of some frames. All state is parameters and buffers.

    An objective either stages nothing and uses its parameters in :meth:`loss`, or stages all that it uses of them.
    """

    betas = (0.9, 0.999)
    graphable = False
    """Whether :meth:`stage` and :meth:`loss` read no value of a tensor and the rest changes state in place only."""

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Every parameter that is fitted, in groups with a peak learning rate each."""
        raise NotImplementedError

    def stage(self, indices: torch.Tensor) -> Staged:
        """What the frames ``indices`` of a step share or what is cheaper to make for all of them at once."""
        del indices
        return Staged()

    def loss(self, indices: torch.Tensor, staged: Staged, *, bfloat16: bool) -> tuple[torch.Tensor, Figures]:
        """The loss of the frames ``indices`` and detached scalars: the mean squared error of samples in 0..1, more.

        Called from several threads at once; must not change any state.
        """
        raise NotImplementedError

    def after_step(self, step: int, total: int) -> None:
        """Called when ``step`` of ``total`` steps are done."""


class PictureObjective(Objective, Generic[Model]):
    """A network that makes pictures, against the pictures of a clip, uint8 [T, H, W, 3].

    Pictures are extended to ``padded`` (height, width) by repeating their edges; the loss counts the visible part.
    ``reconstruct`` maps frame numbers and padded pictures [N, 3, H, W] to the network's output.
    """

    def __init__(
        self,
        model: Model,
        pictures: NDArray[np.uint8],
        padded: tuple[int, int],
        *,
        lr: float,
        distortion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        device: torch.device,
    ) -> None:
        super().__init__()
        self.model = model
        self._pictures = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
        self._padded = padded
        self._lr = lr
        self._distortion = distortion
        self._device_type = device.type

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        return [(list(self.model.parameters()), self._lr)]

    def loss(self, indices: torch.Tensor, staged: Staged, *, bfloat16: bool) -> tuple[torch.Tensor, Figures]:
        del staged
        batch = padded_batch(self._pictures[indices], self._padded)
        height, width = self._pictures.shape[1:3]
        with torch.autocast(self._device_type, torch.bfloat16, enabled=bfloat16):
            output = self.reconstruct(indices, batch)
        made, wanted = output[..., :height, :width].float(), batch[..., :height, :width]
        loss = self._distortion(made, wanted)
        return loss, (F.mse_loss(made.detach(), wanted),)

    def reconstruct(self, indices: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """The network's pictures for ``batch``, the frames ``indices``; an autoencoder by default."""
        del indices
        result: torch.Tensor = self.model(batch)
        return result


def padded_batch(pictures: torch.Tensor, padded: tuple[int, int]) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, height, width] in 0..1, edges repeated, channels last in memory."""
    batch = pictures.permute(0, 3, 1, 2).float().div_(255)
    height, width = batch.shape[2:]
    if (height, width) == padded:
        return batch
    extended = F.pad(batch, (0, padded[1] - width, 0, padded[0] - height), mode="replicate")
    return extended.contiguous(memory_format=torch.channels_last)
