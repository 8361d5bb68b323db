"""CompressAI networks with random weights whose latents are neither all zero nor huge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ARCHITECTURES = {"factorized": "FactorizedPrior", "hyperprior": "ScaleHyperprior", "mean-scale": "MeanScaleHyperprior"}


def random_network(architecture: str) -> Any:
    """A small CompressAI model; the same for every call."""
    import compressai.models
    import torch

    torch.manual_seed(0)
    model = getattr(compressai.models, ARCHITECTURES[architecture])(12, 16).eval()
    for part, gain in (("g_a", 3.5), ("h_a", 2.5), ("h_s", 2.5)):
        for layer in getattr(model, part, ()):
            if hasattr(layer, "weight"):
                layer.weight.data *= gain
    model.entropy_bottleneck._update_quantiles()
    return model


def smooth_picture(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """Soft shapes and a little noise, uint8 ``[height, width, channels]``."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (9 + 4 * one)) * np.cos(columns / (13 - 2 * one)) for one in range(channels)]
    noise = np.random.default_rng(0).normal(0, 4, (height, width, channels))
    return np.clip(128 + 90 * np.stack(waves, 2) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session", params=list(ARCHITECTURES))
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    """Architecture, CompressAI's model, and the file of its converted weights."""
    from codeckit.codecs.learned_image.conversion import convert_model

    model = random_network(request.param)
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.safetensors"
    convert_model(model, path, {})
    return request.param, model, path
