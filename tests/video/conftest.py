"""Small clips and a small network for the tests of the video codecs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def moving_clip() -> NDArray[np.uint8]:
    """Six frames of a moving gradient, uint8 [6, 24, 40, 3]."""
    x, y, t = np.meshgrid(np.arange(40), np.arange(24), np.arange(6))
    waves = [127 + 90 * np.sin((x + 2 * t) / 9), 127 + 90 * np.cos((y - t) / 7), 60 + 20 * t]
    return np.stack(waves, axis=-1).transpose(2, 0, 1, 3).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_settings() -> dict[str, Any]:
    """Settings of a network that fits the moving clip in about a second."""
    return {"strides": "4,2", "model_size": 0.008, "epochs": 30, "lr": 1e-2, "encoder_width": 8}
