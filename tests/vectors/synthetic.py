"""Vectors with the traits of embeddings: unit length, dimensions of unequal spread, a common mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def embeddings(rows: int, dimensions: int = 32, *, seed: int = 0, unit: bool = True) -> NDArray[np.float32]:
    """float32 [rows, dimensions]."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(1000 + dimensions).standard_normal((dimensions, dimensions))
    spread = np.linspace(2, 0.1, dimensions)[:, None]
    values = generator.standard_normal((rows, dimensions)) @ (spread * mixing) + 0.3
    if unit:
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values.astype(np.float32)
