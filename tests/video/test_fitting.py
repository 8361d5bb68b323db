"""The fit does what plain Adam would do, whatever the layout of tensors in memory."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from codeckit import RunContext
from codeckit.codecs.video.fitting import FitSettings, fit, learning_rate_factor
from codeckit.codecs.video.objective import Objective

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

    def loss(self, indices: torch.Tensor, *, bfloat16: bool) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        del bfloat16
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
        expected.loss(torch.arange(FRAMES), bfloat16=False)[0].backward()
        optimiser.step()
    assert torch.allclose(fitted.weight, expected.weight, atol=1e-5)
