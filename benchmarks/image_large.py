"""Pictures too large for comfort: speed and peak memory from ``.npy`` to file and back."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import codeckit

from ..formats.errors import CorruptFile
from .peak_memory import peak_memory_bytes, reset_peak_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["measured_large"]

PRESET = "fast"


def measured_large(
    pictures: list[NDArray[np.uint8]], sizes: list[tuple[int, int]], context: codeckit.RunContext
) -> Iterator[dict[str, Any]]:
    """A row for a picture of each of ``sizes`` (width and height), laid with photographs of one height or width.

    ``peak_memory_bytes`` is the process's resident memory at its peak, libraries and network included.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for width, height in sizes:
            size = _lay(pictures, width, height, folder / "in.npy")
            codeckit.encode(pictures[0], codec="pc", preset=PRESET, context=context)
            row: dict[str, Any] = {
                "codec": "pc",
                "preset": PRESET,
                "width": width,
                "height": height,
                "pixels_bytes": size,
            }
            for work, source, target in (("encode", "in.npy", "file.ck"), ("decode", "file.ck", "out.npy")):
                reset_peak_memory()
                started = time.perf_counter()
                if work == "encode":
                    codeckit.encode(
                        folder / source, folder / target, codec="pc", preset=PRESET, overwrite=True, context=context
                    )
                else:
                    codeckit.decode(folder / source, folder / target, overwrite=True, context=context)
                row[f"{work}_mb_per_s"] = round(size / 1e6 / (time.perf_counter() - started), 3)
                row[f"{work}_peak_memory_bytes"] = peak_memory_bytes()
            if not _same(folder / "in.npy", folder / "out.npy"):
                raise CorruptFile(f"the picture of {width}x{height} pixels did not come back")
            file_bytes = (folder / "file.ck").stat().st_size
            yield {**row, "file_bytes": file_bytes, "bits_per_subpixel": round(8 * file_bytes / size, 4)}


def _lay(pictures: list[NDArray[np.uint8]], width: int, height: int, path: Path) -> int:
    """Write a picture laid with photographs as ``.npy``; returns its bytes of pixels."""
    import numpy as np

    wide = [picture if picture.shape[1] >= picture.shape[0] else picture.swapaxes(0, 1) for picture in pictures]
    rows, columns, channels = wide[0].shape
    laid = np.lib.format.open_memmap(path, "w+", np.uint8, (height, width, channels))
    for number, top in enumerate(range(0, height, rows)):
        for place, left in enumerate(range(0, width, columns)):
            part = laid[top : top + rows, left : left + columns]
            part[...] = wide[(5 * number + place) % len(wide)][: part.shape[0], : part.shape[1]]
    laid.flush()
    return int(laid.nbytes)


def _same(first: Path, second: Path) -> bool:
    with first.open("rb") as left, second.open("rb") as right:
        while piece := left.read(1 << 20):
            if right.read(1 << 20) != piece:
                return False
        return not right.read(1)
