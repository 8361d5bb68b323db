"""Gradients of a step on a CPU: frames side by side on the cores, what they share made and differentiated once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .objective import Staged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from .frame_workers import FrameWorkers
    from .objective import Objective

__all__ = ["set_gradients"]

Tensors = tuple[torch.Tensor, ...]


def set_gradients(
    objective: Objective,
    indices: torch.Tensor,
    parameters: Sequence[nn.Parameter],
    workers: FrameWorkers,
    *,
    bfloat16: bool,
) -> torch.Tensor:
    """Set the gradients of ``parameters`` for the mean loss of the frames ``indices``; return loss and figures.

    Every frame is worked on alone and the results are summed in order, so they do not depend on the number of threads.
    """
    staged = objective.stage(indices)
    targets: Sequence[torch.Tensor] = [tensor.detach().requires_grad_() for tensor in staged.shared] or parameters

    def work(number: int) -> tuple[torch.Tensor, Tensors]:
        own = [tensor[number : number + 1].detach().requires_grad_() for tensor in staged.per_frame]
        seen = Staged(tuple(targets), tuple(own)) if staged.shared else Staged()
        loss, figures = objective.loss(indices[number : number + 1], seen, bfloat16=bfloat16)
        return torch.stack([loss.detach(), *figures]), torch.autograd.grad(loss, [*targets, *own])

    rows, totals, own = [], [torch.zeros_like(target) for target in targets], []
    for row, gradients in workers.map(work, range(len(indices))):
        rows.append(row)
        own.append(gradients[len(targets) :])
        for total, gradient in zip(totals, gradients[: len(targets)], strict=True):
            total.add_(gradient, alpha=1 / len(indices))
    if staged.shared:
        frames = [torch.cat(pieces).div_(len(indices)) for pieces in zip(*own, strict=True)]
        torch.autograd.backward([*staged.shared, *staged.per_frame], [*totals, *frames])
    else:
        # zeros_like laid the totals out as their parameters: the fused optimiser walks through memory
        for parameter, total in zip(parameters, totals, strict=True):
            parameter.grad = total
    return torch.stack(rows).mean(0)
