"""Reading a clip into memory at the size a network is to learn: cut to range, cropped, resized.

A size of another shape than the picture's cuts the largest centred window of that shape first. Whole-number reductions
average blocks; every other change of size is bicubic with anti-aliasing. Both are Pillow's, rounded to
8 bits, so the pictures can be reproduced independently.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ...formats.errors import UnsupportedInput
from ...formats.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ...formats.media_properties import TimedFrame
    from ...formats.media_source import VideoSource

__all__ = ["Clip", "ClipReading", "Timeline", "crop_window", "load_clip", "load_frames", "resized"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A timestamp for each frame, and the ticks at which the last one ends.

    ``begin`` and ``end`` are seconds in the source, for cutting its audio; None where the clip was not cut.
    """

    timestamps: tuple[int, ...]
    end_tick: int
    begin: Fraction | None
    end: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Pictures uint8 [T, H, W, 3] and when they are shown."""

    pictures: NDArray[np.uint8]
    timeline: Timeline


class ClipReading:
    """One pass over the frames ``frames[0]`` to ``frames[1]`` at ``size`` (width, height; None keeps the source's).

    Iterating gives uint8 [H, W, 3] one by one; ``timeline`` is complete after the last.
    A range that does not start with the first frame is moved in time so that it starts when the clip did.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        size: tuple[int, int] | None,
        frames: tuple[int, int | None],
        limits: Limits,
        on_frame: Callable[[int], None] | None = None,
    ) -> None:
        self._source = source
        self._start, self._stop = frames
        self.width, self.height = size or (source.properties.width, source.properties.height)
        limits.check("max_dimension", max(self.width, self.height), f"the size {self.width}x{self.height}")
        limits.check("max_pixels", self.width * self.height, f"the size {self.width}x{self.height}")
        self._limits = limits
        self._on_frame = on_frame
        self._first_tick: int | None = None
        self._ticks: list[int] = []
        self._last_duration = 0

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        self._ticks.clear()
        for number, frame in enumerate(_with_first(self._source, self._start, self._stop)):
            if number == 0:
                self._first_tick = frame.pts
                if self._start > 0:
                    continue
            self._ticks.append(frame.pts)
            self._limits.check("max_frames", len(self._ticks), "the clip's length in frames")
            self._last_duration = frame.duration
            if self._on_frame is not None:
                self._on_frame(len(self._ticks))
            yield resized(frame.pixels, self.width, self.height)
        self._check_length()

    @property
    def timeline(self) -> Timeline:
        """When the frames read are shown."""
        first_tick = self._check_length()
        properties = self._source.properties
        usual = self._ticks[-1] - self._ticks[-2] if len(self._ticks) > 1 else 0
        end_tick = self._ticks[-1] + (self._last_duration or usual or properties.frame_ticks)
        shift = self._ticks[0] - first_tick
        base = properties.time_base
        return Timeline(
            timestamps=tuple(tick - shift for tick in self._ticks),
            end_tick=end_tick - shift,
            begin=shift * base if shift else None,
            end=end_tick * base if self._stop is not None else None,
        )

    def _check_length(self) -> int:
        start, stop, read = self._start, self._stop, len(self._ticks)
        if not read or self._first_tick is None:
            raise UnsupportedInput(
                f"{self._source.name}: no frame lies in the range {start}:{'' if stop is None else stop}"
            )
        if stop is not None and read < stop - start:
            raise UnsupportedInput(
                f"{self._source.name}: frames {start}:{stop} were asked for, the clip has {start + read}"
            )
        return self._first_tick


def load_clip(
    source: VideoSource,
    *,
    size: tuple[int, int] | None,
    frames: tuple[int, int | None],
    limits: Limits,
    on_frame: Callable[[int], None] | None = None,
) -> Clip:
    """Read a whole clip into memory; see :class:`ClipReading`. ``on_frame`` gets the number of frames read so far.

    Raises :class:`UnsupportedInput` when the range is not within the clip, :class:`LimitExceeded`.
    """
    reading = ClipReading(source, size=size, frames=frames, limits=limits, on_frame=on_frame)
    pictures: list[NDArray[np.uint8]] = []
    for picture in reading:
        pictures.append(picture)
        what = f"the clip of {reading.width}x{reading.height}, read up to frame {frames[0] + len(pictures)},"
        limits.check("max_memory_bytes", len(pictures) * picture.nbytes, what)
    return Clip(pictures=np.stack(pictures), timeline=reading.timeline)


def load_frames(
    source: VideoSource,
    *,
    size: tuple[int, int] | None = None,
    frames: tuple[int, int | None] = (0, None),
    limits: Limits = DEFAULT_LIMITS,
) -> NDArray[np.uint8]:
    """The pictures an encoder sees with these settings, uint8 [T, H, W, 3]; for comparing."""
    return load_clip(source, size=size, frames=frames, limits=limits).pictures


def crop_window(width: int, height: int, to_width: int, to_height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the largest centred window with the proportions of the target."""
    scale = min(Fraction(width, to_width), Fraction(height, to_height))
    cut_width, cut_height = to_width * scale, to_height * scale
    left, top = (width - cut_width) / 2, (height - cut_height) / 2
    return float(left), float(top), float(left + cut_width), float(top + cut_height)


def resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] -> [height, width, 3], cropped to the proportions and resampled."""
    from PIL import Image

    if picture.shape[:2] == (height, width):
        return picture
    window = crop_window(picture.shape[1], picture.shape[0], width, height)
    factor = (window[2] - window[0]) / width
    whole = factor.is_integer() and all(edge.is_integer() for edge in window)
    if whole and factor == 1:
        left, top = int(window[0]), int(window[1])
        return np.ascontiguousarray(picture[top : top + height, left : left + width])
    image = Image.fromarray(picture)
    if whole and factor > 1:
        left, top, right, bottom = (int(edge) for edge in window)
        return np.asarray(image.reduce(int(factor), box=(left, top, right, bottom)))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=window))


def _with_first(source: VideoSource, start: int, stop: int | None) -> Iterator[TimedFrame]:
    """The first frame of the clip, for its timestamp, then the frames wanted (not twice)."""
    if start > 0:
        yield from source.frames(0, 1)
    yield from source.frames(start, stop)
