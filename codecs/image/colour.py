"""YCoCg-R: the reversible integer colour transform of the pyramid (Malvar and Sullivan, 2003)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PLANE_RANGES", "from_ycocg", "to_ycocg"]

PLANE_RANGES = ((0, 255), (-255, 255), (-255, 255))
"""Inclusive ranges of Y, Co and Cg for 8-bit red, green and blue."""


def to_ycocg(rgb: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Turn ``[height, width, 3]`` 8-bit RGB into ``[3, height, width]`` planes Y, Co, Cg."""
    red, green, blue = (rgb[..., channel].astype(np.int16) for channel in range(3))
    orange = red - blue
    middle = blue + (orange >> 1)
    chroma_green = green - middle
    return np.stack([middle + (chroma_green >> 1), orange, chroma_green])


def from_ycocg(planes: NDArray[Any]) -> NDArray[np.uint8]:
    """The inverse of :func:`to_ycocg`; exact for every triple it can produce."""
    luma, orange, chroma_green = (plane.astype(np.int16) for plane in planes)
    middle = luma - (chroma_green >> 1)
    green = chroma_green + middle
    blue = middle - (orange >> 1)
    rgb: NDArray[np.uint8] = np.stack([blue + orange, green, blue], axis=-1).astype(np.uint8)
    return rgb
