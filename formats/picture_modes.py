"""The kinds of pixels a picture may have, apart from the code that handles pixels, which needs NumPy."""

from __future__ import annotations

__all__ = ["CHANNELS_OF_MODE"]

CHANNELS_OF_MODE = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
