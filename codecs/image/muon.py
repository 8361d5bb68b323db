"""Muon: momentum whose steps are orthogonalised, for the matrices of hidden layers (Jordan et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["Muon"]

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised by Newton-Schulz; kernels are matrices ``[out, in * height * width]``."""

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float, *, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"]
                velocity.mul_(group["momentum"]).add_(parameter.grad)
                ahead = parameter.grad + group["momentum"] * velocity
                direction = _orthogonalised(ahead.flatten(1))
                rows, columns = direction.shape
                gain = max(1.0, rows / columns) ** 0.5
                parameter.add_(direction.view_as(parameter), alpha=-group["lr"] * gain)


def _orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix with the same singular vectors and singular values near one."""
    tall = matrix.shape[0] > matrix.shape[1]
    current = matrix.T if tall else matrix
    current = current / (current.norm() + 1e-7)
    first, third, fifth = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = current @ current.T
        current = first * current + (third * gram + fifth * gram @ gram) @ current
    result: torch.Tensor = current.T if tall else current
    return result
