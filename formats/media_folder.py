"""Clips as folders of numbered pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from .atomic_file import AtomicFolder, output_errors
from .errors import CorruptFile, UnsupportedInput
from .media_arrays import array_properties
from .media_properties import TimedFrame
from .media_sink import VideoSink
from .media_source import VideoSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .limits import Limits

__all__ = ["FolderSource", "PngFolderSink"]

_SUFFIXES = {".png", ".bmp", ".ppm", ".tif", ".tiff", ".webp"}
_EIGHT_BIT_MODES = {"1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "RGBX"}
_DIGITS = re.compile(r"(\d+)")


class FolderSource(VideoSource):
    """The pictures of a folder in the natural order of their names (``f2`` before ``f10``), at 25 frames a second."""

    def __init__(self, path: str | os.PathLike[str], *, limits: Limits) -> None:
        folder = Path(path)
        files = [item for item in folder.iterdir() if item.suffix.lower() in _SUFFIXES]
        self._files = sorted(files, key=lambda item: _natural_key(item.name))
        self._limits = limits
        if not self._files:
            raise UnsupportedInput(
                f"{folder} is a directory without pictures; give a clip or a folder of numbered PNG files"
            )
        height, width, _ = self._read(self._files[0]).shape
        size = sum(item.stat().st_size for item in self._files)
        super().__init__(array_properties(width, height), name=str(folder), size_bytes=size)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[TimedFrame]:
        shape = (self.properties.height, self.properties.width, 3)
        for number, path in enumerate(self._files[:stop]):
            if number < start:
                continue
            pixels = self._read(path)
            if pixels.shape != shape:
                raise UnsupportedInput(
                    f"{path} is {pixels.shape[1]}x{pixels.shape[0]}, the frames before it are {shape[1]}x{shape[0]}"
                )
            yield TimedFrame(pixels=pixels, pts=number, duration=1)

    def _read(self, path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as image:
                width, height = image.size
                self._limits.check("max_dimension", max(width, height), f"{path}, {width}x{height},")
                self._limits.check("max_pixels", width * height, f"{path}, {width}x{height},")
                if image.mode not in _EIGHT_BIT_MODES:
                    raise UnsupportedInput(
                        f"{path} has samples of mode {image.mode}; convert the pictures to 8 bits a sample"
                    )
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            what = "not a picture" if isinstance(error, UnidentifiedImageError) else "damaged"
            raise CorruptFile(f"{path} is {what} ({error})") from error


class PngFolderSink(VideoSink):
    """Frames as ``000000.png``, ``000001.png``, ...; the folder appears when complete."""

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        super().__init__()
        self._folder = AtomicFolder(path, overwrite=overwrite)
        self._count = 0

    def write(self, pixels: NDArray[np.uint8], pts: list[int], durations: list[int]) -> None:
        for picture in pixels:
            path = self._folder.temporary / f"{self._count:06d}.png"
            with output_errors(self._folder.path):
                Image.fromarray(picture).save(path, compress_level=4)
                self.size_bytes += path.stat().st_size
            self._count += 1

    def commit(self) -> None:
        self._folder.commit()

    def __exit__(self, *details: object) -> None:
        self._folder.__exit__(*details)


def _natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(name)]
