"""Reading a clip into memory at the size a network is to learn: cut to range, cropped, resized.

A size of another shape than the picture's cuts the largest centred window of that shape first. Whole-number reductions
average blocks; every other change of size is bicubic with anti-aliasing. Both are Pillow's, rounded to
8 bits, so the pictures can be reproduced independently.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import UnsupportedInput
from ...formats.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.media_properties import TimedFrame
    from ...formats.media_source import VideoSource

__all__ = ["Clip", "crop_window", "load_clip", "load_frames", "resized"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Pictures uint8 [T, H, W, 3] with a timestamp each, and the ticks at which the last one ends.

    ``begin`` and ``end`` are seconds in the source, for cutting its audio; None where the clip was not cut.
    """

    pictures: NDArray[np.uint8]
    timestamps: tuple[int, ...]
    end_tick: int
    begin: Fraction | None
    end: Fraction | None


def load_clip(
    source: VideoSource,
    *,
    size: tuple[int, int] | None,
    frames: tuple[int, int | None],
    limits: Limits,
    on_frame: Any = None,
) -> Clip:
    """Read frames ``frames[0]`` to ``frames[1]`` at ``size`` (width, height; None keeps the source's).

    A range that does not start with the first frame is moved in time so that it starts when the clip did.
    ``on_frame`` is called with the number of frames read so far.

    Raises :class:`UnsupportedInput` when the range is not within the clip, :class:`LimitExceeded`.
    """
    start, stop = frames
    properties = source.properties
    width, height = size or (properties.width, properties.height)
    limits.check("max_dimension", max(width, height), f"the size {width}x{height}")
    limits.check("max_pixels", width * height, f"the size {width}x{height}")
    pictures: list[NDArray[np.uint8]] = []
    timed: list[TimedFrame] = []
    first_tick = None
    for number, frame in enumerate(_with_first(source, start, stop)):
        if number == 0:
            first_tick = frame.pts
            if start > 0:
                continue
        pictures.append(resized(frame.pixels, width, height))
        timed.append(frame)
        held = len(pictures) * width * height * 3
        limits.check("max_memory_bytes", held, f"the clip of {width}x{height}, read up to frame {start + len(timed)},")
        if on_frame is not None:
            on_frame(len(timed))
    if not timed or first_tick is None:
        raise UnsupportedInput(f"{source.name}: no frame lies in the range {start}:{'' if stop is None else stop}")
    if stop is not None and len(timed) < stop - start:
        raise UnsupportedInput(
            f"{source.name}: frames {start}:{stop} were asked for, the clip has {start + len(timed)}"
        )
    shift = timed[0].pts - first_tick
    last = timed[-1]
    end_tick = last.pts + (last.duration or _usual_step(timed) or properties.frame_ticks)
    base = properties.time_base
    return Clip(
        pictures=np.stack(pictures),
        timestamps=tuple(frame.pts - shift for frame in timed),
        end_tick=end_tick - shift,
        begin=shift * base if shift else None,
        end=end_tick * base if stop is not None else None,
    )


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


def _usual_step(timed: list[TimedFrame]) -> int:
    return timed[-1].pts - timed[-2].pts if len(timed) > 1 else 0
