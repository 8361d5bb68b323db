"""On a CUDA device: the recorded step is the plain one, and a whole fit runs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import codeckit
from codeckit import RunContext
from codeckit.codecs.video.cuda_graph import GraphedGradients
from codeckit.codecs.video.grid_objective import GridObjective, RateAim
from codeckit.codecs.video.grid_parameters import GridParameters

pytestmark = pytest.mark.gpu

SMALL: dict[str, Any] = {"grids": "8:6:2,4:4:1,4:4:0", "widths": "16,16", "blocks": "1,1"}


@pytest.fixture(autouse=True)
def _cuda() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("CODECKIT_REQUIRE_GPU") == "1":
            pytest.fail("CODECKIT_REQUIRE_GPU=1, and torch sees no CUDA device")
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="module")
def clip() -> NDArray[np.uint8]:
    x, y, t = np.meshgrid(np.arange(40), np.arange(24), np.arange(6))
    waves = [127 + 90 * np.sin((x + 2 * t) / 9), 127 + 90 * np.cos((y - t) / 7), 60 + 20 * t]
    return np.stack(waves, axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)


def test_a_recorded_step_has_the_gradients_of_a_plain_one(clip: NDArray[np.uint8]) -> None:
    device = torch.device("cuda")
    structure = GridParameters(**SMALL).structure(height=24, width=40)
    objective = GridObjective(structure, clip, lr=1e-2, latent_lr=1e-1, aim=RateAim(lmbda=1e-2), seed=1, device=device)
    parameters = [parameter for group, _ in objective.parameter_groups() for parameter in group]
    graphed = GraphedGradients(objective, parameters, 2, bfloat16=False)
    for indices in (torch.tensor([4, 1], device=device), torch.tensor([0, 5], device=device)):
        figures = graphed(indices)
        recorded = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
        loss, _ = objective.loss(indices, objective.stage(indices), bfloat16=False)
        assert float(figures[0]) == pytest.approx(float(loss.detach()), rel=1e-4)
        for gradient, expected in zip(recorded, torch.autograd.grad(loss, parameters), strict=True):
            assert torch.allclose(gradient, expected, rtol=1e-2, atol=1e-6)


def test_a_fit_on_cuda_decodes_on_the_cpu(clip: NDArray[np.uint8]) -> None:
    settings = {**SMALL, "epochs": 100, "precision": "auto"}
    data = codeckit.encode(clip, codec="gridnerv", settings=settings, context=RunContext(device="cuda"))
    pictures = [codeckit.decode(data, context=RunContext(device=device)).astype(int) for device in ("cuda", "cpu")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert np.abs(pictures[1] - clip).mean() < 20
