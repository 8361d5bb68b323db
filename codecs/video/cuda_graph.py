"""Loss and gradients of a step as one CUDA graph: small networks cost a GPU less than being told what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from .objective import Objective

__all__ = ["GraphedGradients"]

_WARM_UPS = 3  # as torch asks for before recording


class GraphedGradients:
    """Sets the gradients of ``parameters`` for the mean loss of ``batch`` frames; they stay where they are in memory.

    Only for objectives that are ``graphable``.
    """

    def __init__(self, objective: Objective, parameters: Sequence[nn.Parameter], batch: int, *, bfloat16: bool) -> None:
        self._objective = objective
        self._parameters = parameters
        self._bfloat16 = bfloat16
        self._indices = torch.arange(batch, device=parameters[0].device)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._figures = self._run()

    def __call__(self, indices: torch.Tensor) -> torch.Tensor:
        """Loss and figures of the frames ``indices``, as many as were recorded."""
        self._indices.copy_(indices)
        self._graph.replay()
        return self._figures.clone()

    def _run(self) -> torch.Tensor:
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()
        staged = self._objective.stage(self._indices)
        loss, figures = self._objective.loss(self._indices, staged, bfloat16=self._bfloat16)
        loss.backward()
        return torch.stack([loss.detach(), *figures])
