"""Decoding a ``gridnerv`` file into a video sink, or opening it for random access."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.media_audio import AudioTrack
from .clip_header import AUDIO, TIMES
from .grid_file import LATENTS, NETWORK, GridHeader
from .grid_playback import GridPlayback, Region, View
from .playback import write_frames
from .reader import VideoReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ...formats.chunk import Chunk
    from ...formats.media_sink import VideoSink
    from ...formats.reader import ContainerReader
    from ..protocol import Figure, Selection
    from ..run_context import RunContext

__all__ = ["decode", "open_reader"]

_SETTINGS = ("fps", "precision", "reduce", "region")
_LARGEST_RATE = 1000
_TYPES = {NETWORK, LATENTS, TIMES}

SegmentChunks = tuple[bytes, bytes]


def decode(
    source: ContainerReader, sink: VideoSink, *, context: RunContext, selection: Selection | None
) -> Mapping[str, Figure]:
    """Write the selected frames, all by default; the settings change what is made, see :class:`GridNeRVCodec`."""
    header = GridHeader.of(source.header)
    header.check(source.limits)
    if source.seekable and not source.recover:
        source.require_types(_TYPES)
    settings = {} if selection is None else selection.settings
    unknown = settings.keys() - set(_SETTINGS)
    if unknown:
        raise InvalidParameter(f"no decode setting is called {sorted(unknown)[0]}; there are {', '.join(_SETTINGS)}")
    view = _view(header, settings)
    first, last = (0, header.frames) if selection is None else selection.range_of("frames", header.frames)
    front, load = _from_stream(source) if selection is None else _from_index(source, header)
    timestamps = header.timestamps(front.times)
    playback = GridPlayback(header, timestamps, load, context=context, view=view)
    height, width = view.size
    properties = replace(header.properties, width=width, height=height)
    if "fps" in settings:
        rate = _frame_rate(settings["fps"])
        times, ticks = _resampled(header, timestamps, first, last, rate)
        properties = replace(properties, time_base=1 / rate, frame_rate=rate)
        pictures, span, end_tick = playback.at_times(times), (0, len(times)), len(ticks)
        audio = front.cut(header, timestamps, first, last)
    else:
        pictures, span, ticks = playback.batches(range(first, last)), (first, last), list(timestamps)
        end_tick, audio = header.timing.end, front.audio
    write_frames(
        sink,
        pictures,
        properties=properties,
        audio=audio,
        ticks=ticks,
        end_tick=end_tick,
        span=span,
        context=context,
    )
    return {"frames": span[1] - span[0], "width": width, "height": height, "device": playback.device}


def open_reader(source: ContainerReader, context: RunContext) -> VideoReader:
    """Random access to the frames of a file; the segment of the frame asked for is the only one held."""
    header = GridHeader.of(source.header)
    header.check(source.limits)

    def playback() -> GridPlayback:
        source.require_types(_TYPES)
        front, load = _from_index(source, header)
        return GridPlayback(header, header.timestamps(front.times), load, context=context)

    return VideoReader(header, source.limits, playback)


@dataclass(slots=True)
class _Front:
    """What stands before the segments."""

    audio: list[AudioTrack]
    times: bytes | None = None

    def take(self, chunk: Chunk) -> None:
        if chunk.type == AUDIO:
            self.audio.append(AudioTrack.from_bytes(chunk.payload))
        elif chunk.type == TIMES:
            if self.times is not None:
                raise CorruptFile(f"chunk {chunk.sequence} at byte {chunk.offset}: a second TIME")
            self.times = chunk.payload

    def cut(self, header: GridHeader, timestamps: tuple[int, ...], first: int, last: int) -> list[AudioTrack]:
        """The tracks of the frames ``first`` to ``last``."""
        if (first, last) == (0, header.frames):
            return self.audio
        base = header.properties.time_base
        begin = (timestamps[first] - timestamps[0]) * base if first else None
        end = ([*timestamps[1:], header.timing.end][last - 1] - timestamps[0]) * base
        return [track for track in (track.cut(begin, end) for track in self.audio) if track is not None]


def _from_stream(source: ContainerReader) -> tuple[_Front, Callable[[int], SegmentChunks | None]]:
    """Read chunks in their order, as a pipe gives them; segments can be asked for in rising order only."""
    front = _Front(audio=[])
    header = GridHeader.of(source.header)
    chunks = source.chunks()
    waiting: list[Chunk] = []
    for chunk in chunks:
        if chunk.type in (NETWORK, LATENTS):
            waiting.append(chunk)
            break
        front.take(chunk)
    remaining = _chained(waiting, chunks)
    held: dict[tuple[int, ...], dict[str, bytes]] = {}

    def load(number: int) -> SegmentChunks | None:
        segment = header.segments[number]
        wanted = segment.start, segment.stop
        while len(held.get(wanted, {})) < 2:
            chunk = next(remaining, None)
            if chunk is None:
                _refuse_loss(source, number, header)
                return None
            if chunk.type in (NETWORK, LATENTS):
                held.setdefault(tuple(chunk.span or ()), {})[chunk.type] = chunk.payload
        pair = held.pop(wanted)
        held.clear()
        return pair[NETWORK], pair[LATENTS]

    return front, load


def _from_index(source: ContainerReader, header: GridHeader) -> tuple[_Front, Callable[[int], SegmentChunks | None]]:
    """Read what is needed, by the file's index."""
    front = _Front(audio=[])
    places = {}
    for entry in source.index():
        if entry.type in (NETWORK, LATENTS):
            places[entry.type, tuple(entry.span or ())] = entry
        else:
            front.take(source.read_chunk(entry))

    def load(number: int) -> SegmentChunks | None:
        segment = header.segments[number]
        entries = [places.get((kind, (segment.start, segment.stop))) for kind in (NETWORK, LATENTS)]
        if entries[0] is None or entries[1] is None:
            _refuse_loss(source, number, header)
            return None
        return source.read(entries[0]), source.read(entries[1])

    return front, load


def _refuse_loss(source: ContainerReader, number: int, header: GridHeader) -> None:
    segment = header.segments[number]
    if not source.recover:
        raise CorruptFile(f"the file lacks the chunks {NETWORK} and {LATENTS} of frames {segment.start}:{segment.stop}")


def _chained(first: Iterable[Chunk], rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield from first
    yield from rest


def _view(header: GridHeader, settings: Mapping[str, str]) -> View:
    whole = View.whole(header).region
    region = whole
    if "region" in settings:
        match = re.fullmatch(r"(\d{1,6}),(\d{1,6}),(\d{1,6})x(\d{1,6})", settings["region"])
        if match is None:
            raise InvalidParameter(f"region={settings['region']} is not LEFT,TOP,WIDTHxHEIGHT such as 64,32,200x100")
        left, top, width, height = (int(number) for number in match.groups())
        region = Region(left=left, top=top, width=width, height=height)
        if not (width and height and left + width <= whole.width and top + height <= whole.height):
            raise InvalidParameter(
                f"region={settings['region']} is not within the picture of {whole.width}x{whole.height}"
            )
    finest = header.structure.strides[-1]
    allowed = [factor for factor in range(1, finest + 1) if finest % factor == 0]
    text = settings.get("reduce", "1")
    if text not in [str(factor) for factor in allowed]:
        raise InvalidParameter(f"reduce={text} is not one of {', '.join(str(factor) for factor in allowed)}")
    factor = int(text)
    if region.left % factor or region.top % factor:
        raise InvalidParameter(f"with reduce={factor} a region must begin at multiples of {factor}")
    precision = settings.get("precision", "float32")
    if precision not in ("float32", "bfloat16"):
        raise InvalidParameter(f"precision={precision} is not float32 or bfloat16")
    return View(region=region, reduction=factor, bfloat16=precision == "bfloat16")


def _frame_rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= _LARGEST_RATE:
        raise InvalidParameter(f"fps={text} is not a frame rate up to {_LARGEST_RATE} such as 60 or 30000/1001")
    return rate


def _resampled(
    header: GridHeader, timestamps: tuple[int, ...], first: int, last: int, rate: Fraction
) -> tuple[list[float], list[int]]:
    """Times in frames of pictures at ``rate``, from frame ``first`` to the end of frame ``last - 1``; their ticks."""
    bounds = [*timestamps, header.timing.end]
    base = header.properties.time_base
    length = (bounds[last] - bounds[first]) * base
    count = max(1, round(length * rate))
    times = []
    index = first
    for number in range(count):
        tick = bounds[first] + number / rate / base
        while index + 1 < last and bounds[index + 1] <= tick:
            index += 1
        part = (tick - bounds[index]) / (bounds[index + 1] - bounds[index])
        times.append(index + float(min(part, Fraction(999, 1000))))
    return times, list(range(count))
