"""Patches of photographs for training: cropped at random from resized copies, as YCoCg-R planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...formats.errors import InvalidParameter, UnsupportedInput
from .colour import to_ycocg

__all__ = ["PATCH_SIZE", "PatchPool", "photographs"]

PATCH_SIZE = 96

_FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
)
_COPIES = 3
_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.45, 0.95
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
    """Random patches of all photographs, each also at ``_COPIES`` smaller sizes.

    Resizing cleans the traces of earlier lossy compression and shows the finest level many kinds of sharpness.
    """

    def __init__(self, files: Sequence[Path], seed: int) -> None:
        self._random = np.random.default_rng(seed)
        patches = [patch for file in files for patch in self._patches(file)]
        if not patches:
            raise UnsupportedInput(f"none of {len(files)} photographs has {PATCH_SIZE} pixels both ways at any size")
        self._patches_of_all = np.stack(patches)

    def __len__(self) -> int:
        return len(self._patches_of_all)

    def batch(self, count: int, size: int) -> NDArray[np.int16]:
        """``count`` crops ``[count, 3, size, size]``, mirrored and transposed at random."""
        chosen = self._random.integers(len(self), size=count)
        top, left = self._random.integers(PATCH_SIZE - size + 1, size=2)
        crop = self._patches_of_all[chosen, :, top : top + size, left : left + size]
        for axis in (2, 3):
            if self._random.random() < 0.5:
                crop = np.flip(crop, axis)
        if self._random.random() < 0.5:
            crop = crop.swapaxes(2, 3)
        return np.ascontiguousarray(crop)

    def _patches(self, file: Path) -> Iterator[NDArray[np.int16]]:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        copies = [image]
        for _ in range(_COPIES):
            factor = self._random.uniform(_SMALLEST_FACTOR, _LARGEST_FACTOR)
            size = (round(image.width * factor), round(image.height * factor))
            chosen = _FILTERS[self._random.integers(len(_FILTERS))]
            copies.append(image.resize(size, chosen))
        for copy in copies:
            planes = to_ycocg(np.asarray(copy))
            height, width = planes.shape[1:]
            if min(height, width) < PATCH_SIZE:
                continue
            for _ in range(max(1, round(0.6 * height * width / PATCH_SIZE**2))):
                top = self._random.integers(height - PATCH_SIZE + 1)
                left = self._random.integers(width - PATCH_SIZE + 1)
                yield planes[:, top : top + PATCH_SIZE, left : left + PATCH_SIZE]
