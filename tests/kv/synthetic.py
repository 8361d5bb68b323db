"""Made-up caches with what real ones have: channel means, unequal channels, layers that resemble one another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codeckit import kv

ROTARY = kv.Rotary.from_theta(10_000.0, 16)


def arrays(
    *, layers: int = 4, heads: int = 2, tokens: int = 300, width: int = 16, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keys and values, float32 [layers, heads, tokens, width]."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(2):
        spread = np.exp(rng.normal(size=(layers, heads, 1, width)))
        mean = 3 * rng.normal(size=(layers, heads, 1, width))
        shared = rng.normal(size=(1, heads, tokens, width))
        own = rng.normal(size=(layers, heads, tokens, width))
        result.append((mean + spread * (0.8 * shared + 0.6 * own)).astype(np.float32))
    return result[0], result[1]


def cache(*, dtype: str = "F16", rotary: kv.Rotary | None = ROTARY, model: str = "", **shape: int) -> kv.Cache:
    """A cache of that storage type."""
    keys, values = (as_dtype(array, dtype) for array in arrays(**shape))
    return kv.from_arrays(keys, values, rotary=rotary, model=model)


def as_dtype(array: NDArray[np.float32], dtype: str) -> Any:
    if dtype == "BF16":
        import torch

        return torch.from_numpy(array).to(torch.bfloat16)
    return array.astype({"F16": np.float16, "F32": np.float32}[dtype])


def attention_mass(layers: int, heads: int, tokens: int, seed: int = 0) -> NDArray[np.float32]:
    """Positive numbers [layers, heads, tokens] whose sum over tokens is one."""
    drawn = np.random.default_rng(seed).gamma(0.2, size=(layers, heads, tokens)) + 1e-6
    return (drawn / drawn.sum(axis=2, keepdims=True)).astype(np.float32)
