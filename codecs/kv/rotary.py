"""Turning keys by the rotary position embedding, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cache import Rotary

__all__ = ["rotate", "rotation_tables", "unrotate"]

Floats = "NDArray[np.float32]"


def rotation_tables(rotary: Rotary, positions: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines, float32 [tokens, pairs], from angles in float64."""
    angles = positions.astype(np.float64)[:, None] * np.asarray(rotary.inverse_frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(keys: NDArray[np.float32], rotary: Rotary, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Keys [heads, tokens, width] before RoPE, placed at ``positions`` [tokens]."""
    cosines, sines = rotation_tables(rotary, positions)
    return _turn(keys, rotary, cosines, sines)


def unrotate(keys: NDArray[np.float32], rotary: Rotary, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Invert :func:`rotate`."""
    cosines, sines = rotation_tables(rotary, positions)
    return _turn(keys, rotary, cosines, -sines)


def _turn(
    keys: NDArray[np.float32],
    rotary: Rotary,
    cosines: NDArray[np.float32],
    sines: NDArray[np.float32],
) -> NDArray[np.float32]:
    pairs = len(rotary.inverse_frequencies)
    turned = np.array(keys, np.float32)
    if rotary.style == "half":
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    else:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    x, y = keys[..., first], keys[..., second]
    turned[..., first] = x * cosines - y * sines
    turned[..., second] = y * cosines + x * sines
    return turned
