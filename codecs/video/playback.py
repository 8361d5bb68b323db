"""Frames of a decoded file, wherever they come from, into a video sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.media_audio import AudioTrack
    from ...formats.media_properties import VideoProperties
    from ...formats.media_sink import VideoSink
    from ..run_context import RunContext

__all__ = ["Playback", "write_frames"]


class Playback(Protocol):
    """A decoded file: when its frames are shown, in ticks, and the pictures of any of them."""

    device: str
    timestamps: tuple[int, ...]

    def batches(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """uint8 RGB [N, H, W, 3] for the frames ``indices``, in that order, some at a time."""
        ...


def write_frames(
    sink: VideoSink,
    pictures: Iterator[NDArray[np.uint8]],
    *,
    properties: VideoProperties,
    audio: list[AudioTrack],
    ticks: Sequence[int],
    end_tick: int,
    span: tuple[int, int],
    context: RunContext,
) -> None:
    """Write the frames ``span`` (first, last) of a clip shown at ``ticks`` and ending at ``end_tick``.

    A part is moved in time to where the clip begins, and the audio with it.
    """
    first, last = span
    shift = ticks[first] - ticks[0]
    ends = [*ticks[1:], end_tick]
    sink.begin(properties, _cut(audio, properties, ticks, span, ends[last - 1]))
    position = first
    for batch in pictures:
        stop = position + len(batch)
        starts = ticks[position:stop]
        durations = [end - start for start, end in zip(starts, ends[position:stop], strict=True)]
        sink.write(batch, [start - shift for start in starts], durations)
        position = stop
        context.report("decoding", position - first, last - first, unit="frames")
    for note in sink.notes:
        context.warning(note)


def _cut(
    audio: list[AudioTrack], properties: VideoProperties, ticks: Sequence[int], span: tuple[int, int], end_tick: int
) -> list[AudioTrack]:
    """The tracks, cut to the frames ``span``."""
    first, last = span
    if (first, last) == (0, len(ticks)):
        return audio
    base = properties.time_base
    begin = (ticks[first] - ticks[0]) * base if first else None
    cut = (track.cut(begin, end_tick * base) for track in audio)
    return [track for track in cut if track is not None]
