"""Random crops of photographs for training, each from a copy resized by a random factor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...formats.errors import InvalidParameter

__all__ = ["CropPool", "held_out_crops", "photographs"]

_SUFFIXES = {".webp", ".png", ".ppm", ".tif", ".tiff", ".bmp"}
_HELD_OUT_EVERY = 43
_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.8, 2.0


def photographs(data: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Lossless images in the folders or files of ``data``: those to train on, and every 43rd to measure with."""
    found: list[Path] = []
    for item in data:
        files = sorted(item.iterdir()) if item.is_dir() else [item]
        found += [file for file in files if file.suffix.lower() in _SUFFIXES]
    held_out = found[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]
    training = [file for file in found if file not in set(held_out)]
    if not training:
        names = ", ".join(sorted(_SUFFIXES))
        raise InvalidParameter(f"no lossless images ({names}) among {', '.join(map(str, data))}")
    return training, held_out


class CropPool:
    """Crops of all photographs, which are decoded once and kept."""

    def __init__(self, files: Sequence[Path], seed: int) -> None:
        self._images = [_opened(file) for file in files]
        self._random = np.random.default_rng(seed)

    def batch(self, count: int, side: int) -> NDArray[np.uint8]:
        """``count`` crops, uint8 ``[count, 3, side, side]``."""
        return np.stack([self._crop(side) for _ in range(count)])

    def _crop(self, side: int) -> NDArray[np.uint8]:
        image = self._images[self._random.integers(len(self._images))]
        # photographs of full size are smoother, pixel for pixel, than small ones: most factors enlarge
        lowest = max(_SMALLEST_FACTOR, side / min(image.size))
        factor = np.exp(self._random.uniform(np.log(lowest), np.log(max(_LARGEST_FACTOR, lowest))))
        extent = side / factor
        left = self._random.uniform(0, image.width - extent)
        top = self._random.uniform(0, image.height - extent)
        box = (left, top, left + extent, top + extent)
        crop = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))
        if self._random.integers(2):
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop.transpose(2, 0, 1))


def held_out_crops(files: Sequence[Path], side: int) -> NDArray[np.uint8]:
    """The central crop of each photograph, uint8 ``[files, 3, side, side]``."""
    crops = []
    for file in files:
        image = _opened(file)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        crops.append(np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1))
    return np.stack(crops) if crops else np.zeros((0, 3, side, side), np.uint8)


def _opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")
