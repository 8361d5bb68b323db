"""The fit does what plain Adam would do, whatever the layout of tensors in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codeckit import RunContext
from codeckit.codecs.video.fitting import FitSettings, fit, learning_rate_factor
from codeckit.codecs.video.frame_gradients import set_gradients
from codeckit.codecs.video.frame_workers import FrameWorkers
from codeckit.codecs.video.grid_objective import GridObjective, RateAim
from codeckit.codecs.video.grid_structure import GridStructure, parse_grids
from codeckit.codecs.video.objective import Objective, Staged

FRAMES = 4
WARM_UP = 0.1


class Slanted(Objective):
    """A convolution whose weight lies in channels-last order while its gradient comes in the usual one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        weight = torch.randn(4, 3, 3, 3)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self._inputs = torch.randn(FRAMES, 3, 8, 8)
        self._outputs = torch.randn(FRAMES, 4, 8, 8)

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        return [([self.weight], 0.05)]

    def loss(
        self, indices: torch.Tensor, staged: Staged, *, bfloat16: bool
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        del staged, bfloat16
        made = F.conv2d(self._inputs[indices], self.weight.contiguous(), padding=1)
        loss = F.mse_loss(made, self._outputs[indices])
        return loss, (loss.detach(),)


def test_a_fit_takes_the_steps_of_plain_adam() -> None:
    pictures = np.zeros((FRAMES, 8, 8, 3), np.uint8)
    settings = FitSettings(epochs=6, batch=FRAMES, seed=1, precision="float32", warm_up=WARM_UP)
    fitted = fit(lambda _: Slanted(), pictures, settings, RunContext(device="cpu"), identity={})
    expected = Slanted()
    optimiser = torch.optim.Adam([expected.weight], betas=expected.betas, fused=False, foreach=False)
    for step in range(settings.epochs):
        optimiser.param_groups[0]["lr"] = 0.05 * learning_rate_factor(step / settings.epochs, WARM_UP)
        optimiser.zero_grad()
        expected.loss(torch.arange(FRAMES), Staged(), bfloat16=False)[0].backward()
        optimiser.step()
    assert torch.allclose(fitted.weight, expected.weight, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_frame_by_frame_are_those_of_the_whole_batch(threads: int) -> None:
    """Of an objective that shares weights and key frames among the frames of a step."""
    pictures = np.random.default_rng(2).integers(0, 256, (5, 20, 27, 3), np.uint8)
    grids = parse_grids("8:3:2,4:2:1,4:2:0")
    structure = GridStructure(rows=3, columns=4, grids=grids, widths=(8, 8), blocks=(1, 1), expansion=2)
    objective = GridObjective(
        structure, pictures, lr=1e-2, latent_lr=1e-1, aim=RateAim(lmbda=1e-2), seed=1, device=torch.device("cpu")
    )
    with torch.no_grad():
        for values in objective.latents.values:
            values.copy_(torch.randn(values.shape, generator=torch.Generator().manual_seed(4)) * 2)
    parameters = [parameter for group, _ in objective.parameter_groups() for parameter in group]
    indices = torch.tensor([3, 0, 4, 1])
    loss, _ = objective.loss(indices, objective.stage(indices), bfloat16=False)
    expected = torch.autograd.grad(loss, parameters)
    with FrameWorkers(threads, "cpu") as workers:
        figures = set_gradients(objective, indices, parameters, workers, bfloat16=False)
    assert float(figures[0]) == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-7)
