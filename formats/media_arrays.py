"""Clips held in arrays: NumPy arrays and torch tensors in, .npy in and out, arrays out."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .atomic_file import AtomicFile
from .errors import CorruptFile, InvalidParameter, UnsupportedInput
from .media_properties import Colour, TimedFrame, VideoProperties
from .media_sink import VideoSink
from .media_source import DEFAULT_FRAME_RATE, VideoSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .limits import Limits

__all__ = ["ArraySource", "MemorySink", "NpySink", "array_properties", "open_npy"]

_RGB = Colour(matrix=0, range=2)


def array_properties(width: int, height: int) -> VideoProperties:
    """Properties of pictures without any timing or colour description: 25 frames per second, RGB."""
    return VideoProperties(
        width=width,
        height=height,
        time_base=1 / DEFAULT_FRAME_RATE,
        frame_rate=Fraction(DEFAULT_FRAME_RATE),
        colour=_RGB,
    )


class ArraySource(VideoSource):
    """uint8 RGB [T, H, W, 3] as a NumPy array or anything with ``__array__`` (CPU torch tensors)."""

    def __init__(self, value: Any, *, name: str, limits: Limits) -> None:
        self._frames = _checked(value, name, limits)
        _, height, width, _ = self._frames.shape
        super().__init__(array_properties(width, height), name=name, size_bytes=self._frames.nbytes)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[TimedFrame]:
        for number in range(start, min(len(self._frames), stop or len(self._frames))):
            yield TimedFrame(pixels=np.asarray(self._frames[number]), pts=number, duration=1)


def open_npy(path: Path, limits: Limits) -> ArraySource:
    """A .npy file of uint8 [T, H, W, 3], mapped rather than read."""
    try:
        value = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if not path.is_file():
            raise InvalidParameter(f"cannot open {path}: it is not a file") from error
        raise CorruptFile(f"{path} is not a .npy array ({error})") from error
    return ArraySource(value, name=str(path), limits=limits)


class MemorySink(VideoSink):
    """Collects frames; ``value`` is uint8 [T, H, W, 3] after commit."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._batches: list[NDArray[np.uint8]] = []
        self.value: NDArray[np.uint8] | None = None

    def write(self, pixels: NDArray[np.uint8], pts: list[int], durations: list[int]) -> None:
        self.size_bytes += pixels.nbytes
        self._limits.check("max_memory_bytes", self.size_bytes, "the decoded clip")
        self._batches.append(pixels)

    def commit(self) -> None:
        width, height = self.properties.width, self.properties.height
        empty = np.zeros((0, height, width, 3), np.uint8)
        self.value = np.concatenate([empty, *self._batches])
        self._batches = []


class NpySink(VideoSink):
    """A .npy file of uint8 [T, H, W, 3], written as frames come; the header is completed at the end."""

    _HEADER_BYTES = 128

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool) -> None:
        super().__init__()
        self._file = AtomicFile(path, overwrite=overwrite)
        self._file.write(bytes(self._HEADER_BYTES))
        self._count = 0

    def write(self, pixels: NDArray[np.uint8], pts: list[int], durations: list[int]) -> None:
        self._file.write(np.ascontiguousarray(pixels).data)
        self._count += len(pixels)

    def commit(self) -> None:
        shape = (self._count, self.properties.height, self.properties.width, 3)
        header = io.BytesIO()
        # NumPy pads the header to a multiple of 64 bytes and leaves room for the first axis to grow
        description = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        if len(header.getvalue()) != self._HEADER_BYTES:
            raise InvalidParameter(f"the shape {shape} does not fit a .npy header of {self._HEADER_BYTES} bytes")
        self._file.stream.seek(0)
        self._file.write(header.getvalue())
        self.size_bytes = self._HEADER_BYTES + int(np.prod(shape, dtype=np.int64))
        self._file.commit()

    def __exit__(self, *details: object) -> None:
        self._file.__exit__(*details)


def _checked(value: Any, name: str, limits: Limits) -> NDArray[np.uint8]:
    shape = tuple(value.shape)
    if len(shape) != 4 or shape[-1] != 3:
        raise UnsupportedInput(f"{name} has shape {shape}; frames are uint8 [T, H, W, 3]")
    if str(value.dtype).removeprefix("torch.") != "uint8":
        raise UnsupportedInput(f"{name} is {value.dtype}; frames are uint8 with values 0 to 255")
    if 0 in shape:
        raise UnsupportedInput(f"{name} has shape {shape}: there is not a single pixel in it")
    limits.check("max_dimension", max(shape[1:3]), f"the picture size {shape[2]}x{shape[1]}")
    limits.check("max_pixels", shape[1] * shape[2], f"the picture size {shape[2]}x{shape[1]}")
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    result: NDArray[np.uint8] = value if isinstance(value, np.ndarray) else np.asarray(value)
    return result
