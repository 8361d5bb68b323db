"""Decoding the file of a fitted network into a video sink, or opening it for random access."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ...formats.errors import InvalidParameter
from .network_file import EMBEDDINGS, TIMES, WEIGHTS, read_content
from .playback import write_frames
from .reader import VideoReader
from .reconstruction import Reconstruction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.media_sink import VideoSink
    from ...formats.reader import ContainerReader
    from ..protocol import Figure, Selection
    from ..run_context import RunContext
    from .network_file import Content, NetworkHeader
    from .network_structure import NetworkStructure

__all__ = ["decode", "open_reader"]

S = TypeVar("S", bound="NetworkStructure")

_MAX_BATCH = 1024
_TYPES = {WEIGHTS, EMBEDDINGS, TIMES}


def decode(
    clip: NetworkHeader[S],
    source: ContainerReader,
    sink: VideoSink,
    *,
    context: RunContext,
    selection: Selection | None,
) -> Mapping[str, Figure]:
    """Write the selected frames, all by default; the network runs for these only."""
    clip.check(source.limits)
    if source.seekable and not source.recover:
        source.require_types(_TYPES)
    first, last = (0, clip.frames) if selection is None else selection.range_of("frames", clip.frames)
    content = read_content(clip, source.chunks())
    decoder = _reconstruction(clip, content, context, None if selection is None else _batch(selection))
    write_frames(
        sink,
        decoder.batches(range(first, last)),
        properties=clip.properties,
        audio=content.audio,
        ticks=content.timestamps,
        end_tick=clip.timing.end,
        span=(first, last),
        context=context,
    )
    return {
        "frames": last - first,
        "width": clip.properties.width,
        "height": clip.properties.height,
        "device": decoder.device,
    }


def open_reader(clip: NetworkHeader[S], source: ContainerReader, context: RunContext) -> VideoReader:
    """Random access to the frames of a file."""
    clip.check(source.limits)

    def playback() -> Reconstruction:
        source.require_types(_TYPES)
        entries = source.index()
        content = read_content(clip, (source.read_chunk(entry) for entry in entries if entry.type != "audi"))
        return _reconstruction(clip, content, context)

    return VideoReader(clip, source.limits, playback)


def _reconstruction(
    clip: NetworkHeader[S], content: Content, context: RunContext, batch: int | None = None
) -> Reconstruction:
    return Reconstruction(
        clip.structure,
        content.parameters,
        content.embeddings,
        size=(clip.properties.height, clip.properties.width),
        timestamps=content.timestamps,
        context=context,
        batch=batch,
    )


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
