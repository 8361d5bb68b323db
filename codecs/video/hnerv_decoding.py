"""Decoding an HNeRV file into a video sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...formats.errors import InvalidParameter
from .hnerv_file import ClipHeader, Content, read_content
from .reconstruction import Reconstruction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.media_audio import AudioTrack
    from ...formats.media_sink import VideoSink
    from ...formats.reader import ContainerReader
    from ..protocol import Figure, Selection
    from ..run_context import RunContext

__all__ = ["decode"]

_MAX_BATCH = 1024


def decode(
    source: ContainerReader, sink: VideoSink, *, context: RunContext, selection: Selection | None
) -> Mapping[str, Figure]:
    """Write the selected frames, all by default; the network runs for these only."""
    clip = ClipHeader.of(source.header)
    clip.check(source.limits)
    if source.seekable and not source.recover:
        source.require_types({"WGTS", "EMBD", "TIME"})
    first, last = (0, clip.frames) if selection is None else selection.range_of("frames", clip.frames)
    content = read_content(clip, source.chunks())
    decoder = Reconstruction(
        clip.structure,
        content.parameters,
        content.embeddings,
        size=(clip.properties.height, clip.properties.width),
        context=context,
        batch=None if selection is None else _batch(selection),
    )
    shift = content.timestamps[first] - content.timestamps[0]
    ends = [*content.timestamps[1:], clip.timing.end]
    sink.begin(clip.properties, _audio(clip, content, first, last, ends[last - 1]))
    position = first
    for pictures in decoder.batches(range(first, last)):
        stop = position + len(pictures)
        starts = content.timestamps[position:stop]
        durations = [end - start for start, end in zip(starts, ends[position:stop], strict=True)]
        sink.write(pictures, [start - shift for start in starts], durations)
        position = stop
        context.report("decoding", position - first, last - first, unit="frames")
    for note in sink.notes:
        context.warning(note)
    return {
        "frames": last - first,
        "width": clip.properties.width,
        "height": clip.properties.height,
        "device": decoder.device,
    }


def _audio(clip: ClipHeader, content: Content, first: int, last: int, end_tick: int) -> list[AudioTrack]:
    """The tracks, cut to the frames ``first`` to ``last``."""
    if (first, last) == (0, clip.frames):
        return content.audio
    base = clip.properties.time_base
    begin = (content.timestamps[first] - content.timestamps[0]) * base if first else None
    cut = (track.cut(begin, end_tick * base) for track in content.audio)
    return [track for track in cut if track is not None]


def _batch(selection: Selection) -> int | None:
    unknown = selection.settings.keys() - {"batch"}
    if unknown:
        raise InvalidParameter(f"no decode setting is called {', '.join(sorted(unknown))}; there is batch")
    text = selection.settings.get("batch")
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_BATCH:
        raise InvalidParameter(f"batch={text} is not in 1..{_MAX_BATCH}")
    return int(text)
