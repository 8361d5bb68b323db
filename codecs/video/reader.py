"""Random access to the frames of a file."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ...formats.limits import Limits
    from .clip_header import VideoHeader
    from .playback import Playback

__all__ = ["Frames", "VideoReader"]


class VideoReader:
    """A clip opened for random access. Opening reads the header; the network is built when a frame is asked for.

    ``frames`` is indexed like an array, ``timestamps`` are seconds, ``fps`` is the nominal frame rate.
    """

    def __init__(self, clip: VideoHeader, limits: Limits, make_playback: Callable[[], Playback]) -> None:
        self._clip = clip
        self._limits = limits
        self._make_playback = make_playback
        self.frames = Frames(self)

    def __len__(self) -> int:
        return self._clip.frames

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return iter(self.frames)

    @property
    def width(self) -> int:
        """Width of the pictures in pixels."""
        return self._clip.properties.width

    @property
    def height(self) -> int:
        """Height of the pictures in pixels."""
        return self._clip.properties.height

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[T, H, W, 3]."""
        return len(self), self.height, self.width, 3

    @property
    def fps(self) -> Fraction:
        """Nominal frame rate."""
        return self._clip.properties.frame_rate

    @property
    def duration(self) -> Fraction:
        """Length in seconds."""
        return self._clip.duration

    @property
    def timestamps(self) -> tuple[Fraction, ...]:
        """When each frame is shown, in seconds, exactly."""
        base = self._clip.properties.time_base
        return tuple(tick * base for tick in self._playback.timestamps)

    @cached_property
    def _playback(self) -> Playback:
        return self._make_playback()

    def _pictures(self, indices: range) -> NDArray[np.uint8]:
        size = len(indices) * self.height * self.width * 3
        self._limits.check("max_memory_bytes", size, f"{len(indices)} frames at once")
        empty = np.zeros((0, self.height, self.width, 3), np.uint8)
        return np.concatenate([empty, *self._playback.batches(indices)])


class Frames:
    """The frames of a clip: ``frames[3]`` is uint8 [H, W, 3], ``frames[10:20]`` uint8 [T, H, W, 3]."""

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader

    def __len__(self) -> int:
        return len(self._reader)

    @overload
    def __getitem__(self, key: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, key: slice) -> NDArray[np.uint8]: ...

    def __getitem__(self, key: int | slice) -> NDArray[np.uint8]:
        everything = range(len(self))
        if isinstance(key, slice):
            return self._reader._pictures(everything[key])
        index = everything[key]  # raises IndexError, and takes negative numbers
        picture: NDArray[np.uint8] = self._reader._pictures(range(index, index + 1))[0]
        return picture

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for pictures in self._reader._playback.batches(range(len(self))):
            yield from pictures
