"""Patches of photographs for training: cropped at random from resized copies, as YCoCg-R planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ...formats.errors import InvalidParameter, UnsupportedInput
from .colour import to_ycocg

__all__ = ["PatchPool", "photographs"]

_FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
)
_COPIES = 4
_GRAINED = 0.3
_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.36, 0.95
_SUFFIXES = {".webp", ".png", ".ppm", ".tif", ".tiff", ".bmp"}


def photographs(data: Sequence[Path], held_out: frozenset[str]) -> list[Path]:
    """Image files in the folders or files of ``data``, sorted, without the names in ``held_out``.

    Lossless formats only: a network that saw JPEG blocks would learn them.
    """
    found: list[Path] = []
    for item in data:
        files = sorted(item.iterdir()) if item.is_dir() else [item]
        found += [file for file in files if file.suffix.lower() in _SUFFIXES]
    kept = [file for file in found if file.name not in held_out]
    if not kept:
        names = ", ".join(sorted(_SUFFIXES))
        raise InvalidParameter(f"no lossless images ({names}) among {', '.join(map(str, data))}")
    return kept


class PatchPool:
    """Random patches of all photographs, each also at ``_COPIES`` smaller sizes, some of them softened and grained.

    Resizing cleans the traces of earlier lossy compression and shows the finest level many kinds of sharpness; grain
    stands for what scanners and sensors add.
    """

    def __init__(self, files: Sequence[Path], seed: int, smallest: int) -> None:
        self._random = np.random.default_rng(seed)
        self._copies = [copy for file in files for copy in self._resized(file) if min(copy.shape[:2]) >= smallest]
        if not self._copies:
            raise UnsupportedInput(f"none of {len(files)} photographs has {smallest} pixels both ways at any size")
        areas = np.array([copy.shape[0] * copy.shape[1] for copy in self._copies], np.float64)
        self._cumulative = np.cumsum(areas) / areas.sum()

    def __len__(self) -> int:
        return len(self._copies)

    def batch(self, count: int, size: int) -> NDArray[np.int16]:
        """``count`` crops ``[count, 3, size, size]``, mirrored and transposed at random."""
        return np.stack([self._patch(size) for _ in range(count)])

    def _patch(self, size: int) -> NDArray[np.int16]:
        chosen = int(np.searchsorted(self._cumulative, self._random.random(), side="right"))
        copy = self._copies[min(chosen, len(self._copies) - 1)]
        top = self._random.integers(copy.shape[0] - size + 1)
        left = self._random.integers(copy.shape[1] - size + 1)
        crop = to_ycocg(copy[top : top + size, left : left + size])
        for axis in (1, 2):
            if self._random.random() < 0.5:
                crop = np.flip(crop, axis)
        return crop.swapaxes(1, 2) if self._random.random() < 0.5 else crop

    def _resized(self, file: Path) -> Iterator[NDArray[np.uint8]]:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        yield np.asarray(image)
        for _ in range(_COPIES):
            factor = self._random.uniform(_SMALLEST_FACTOR, _LARGEST_FACTOR)
            size = (round(image.width * factor), round(image.height * factor))
            chosen = _FILTERS[self._random.integers(len(_FILTERS))]
            copy = image.resize(size, chosen)
            if self._random.random() < _GRAINED:
                copy = copy.filter(ImageFilter.GaussianBlur(self._random.uniform(0.2, 0.7)))
                yield self._grained(np.asarray(copy))
            else:
                yield np.asarray(copy)

    def _grained(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``pixels`` with noise of random strength that colours share in part, as film and sensors have it."""
        noise = self._random.standard_normal(pixels.shape).astype(np.float32)
        shared = self._random.random()
        noise = noise * (1 - shared) + noise.mean(axis=2, keepdims=True) * (shared * 3**0.5)
        noise *= self._random.uniform(0.2, 2.0) * self._random.uniform(0.7, 1.3, 3).astype(np.float32)
        grained: NDArray[np.uint8] = np.clip(np.round(pixels + noise), 0, 255).astype(np.uint8)
        return grained
