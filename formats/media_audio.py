"""Audio tracks carried through as packets, without decoding them.

A track is kept as a NUT stream (FFmpeg's container with exact time bases) of its packets, moved to start at tick 0,
plus the tick it started at.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import av

from .errors import CorruptFile, LimitExceeded
from .varint import append_varint, read_varint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .limits import Limits

__all__ = ["AudioTrack", "AudioWriter", "extract_audio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """One track: ``stream`` is a NUT file whose first packet is at tick 0, shown from tick ``start`` on."""

    start: int
    stream: bytes

    def to_bytes(self) -> bytes:
        """Zigzag varint of the start tick, then the NUT stream."""
        out = bytearray()
        append_varint(out, self.start << 1 if self.start >= 0 else (-self.start << 1) - 1)
        return bytes(out) + self.stream

    @classmethod
    def from_bytes(cls, payload: bytes) -> AudioTrack:
        """Parse :meth:`to_bytes`; raises :class:`CorruptFile`."""
        value, position = read_varint(payload, 0, "audio track")
        start = value >> 1 if value & 1 == 0 else -((value + 1) >> 1)
        return cls(start=start, stream=payload[position:])

    def cut(self, begin: Fraction | None, end: Fraction | None) -> AudioTrack | None:
        """The packets heard in ``begin`` <= t < ``end`` (seconds), moved so that ``begin`` becomes time 0.

        None stands for the open end; the result is None when nothing is heard.
        """
        container, stream = _open(self.stream)
        with container:
            packets = list(_packets(container, stream))
            return _remux(stream, packets, self.start, begin, end, begin or Fraction(0))


def extract_audio(stream: BinaryIO, begin: Fraction | None, end: Fraction | None, limits: Limits) -> list[AudioTrack]:
    """Every audio track of a media file; with a range in seconds, only the packets heard in it.

    With ``begin`` times are moved so that it becomes time 0.
    """
    stream.seek(0)
    tracks = []
    with av.open(stream) as container:
        sources = list(container.streams.audio)
        packets: dict[int, list[Any]] = {source.index: [] for source in sources}
        size = 0
        for packet in container.demux(sources) if sources else ():
            if packet.pts is None or packet.size == 0:
                continue
            size += packet.size
            if size > limits.max_memory_bytes:
                raise LimitExceeded(
                    f"the audio tracks take more than max_memory_bytes={limits.max_memory_bytes:,}; drop the audio "
                    "or raise the limit"
                )
            packets[packet.stream.index].append(packet)
        for source in sources:
            track = _remux(source, packets[source.index], 0, begin, end, begin or Fraction(0))
            if track is not None:
                tracks.append(track)
    return tracks


def _remux(
    source: Any,
    packets: Sequence[Any],
    start: int,
    begin: Fraction | None,
    end: Fraction | None,
    origin: Fraction,
) -> AudioTrack | None:
    base: Fraction = source.time_base
    chosen = []
    for packet in packets:
        seen = (start + packet.pts) * base
        stops = seen + (packet.duration or 0) * base
        if (begin is None or stops > begin or seen >= begin) and (end is None or seen < end):
            chosen.append(packet)
    if not chosen:
        return None
    first = min(packet.pts for packet in chosen)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="nut") as output:
        stream = output.add_stream_from_template(source)
        stream.metadata.update(source.metadata)
        for packet in chosen:
            packet.pts -= first
            packet.dts = packet.pts if packet.dts is None else packet.dts - first
            packet.stream = stream
            output.mux(packet)
    return AudioTrack(start=start + first - round(origin / base), stream=buffer.getvalue())


class AudioWriter:
    """Adds tracks to an open output and feeds their packets in time order.

    ``skipped`` names codecs the output's format cannot hold.
    """

    def __init__(self, output: Any, tracks: Sequence[AudioTrack]) -> None:
        self.skipped: list[str] = []
        self._output = output
        self._pending: list[tuple[Fraction, Any]] = []
        supported = output.supported_codecs
        for track in tracks:
            container, source = _open(track.stream)
            with container:
                name = source.codec_context.codec.canonical_name
                if name not in supported:
                    self.skipped.append(name)
                    continue
                stream = output.add_stream_from_template(source)
                stream.metadata.update(source.metadata)
                for packet in _packets(container, source):
                    packet.pts += track.start
                    packet.dts += track.start
                    self._pending.append((packet.pts * source.time_base, packet))
                    packet.stream = stream
        self._pending.sort(key=lambda item: item[0], reverse=True)

    def write_until(self, seconds: Fraction | None) -> None:
        """Write the packets due before ``seconds``, all that are left when None."""
        while self._pending and (seconds is None or self._pending[-1][0] < seconds):
            _, packet = self._pending.pop()
            self._output.mux(packet)


def _open(data: bytes) -> tuple[Any, Any]:
    try:
        container = av.open(io.BytesIO(data), format="nut")
    except av.error.FFmpegError as error:
        raise CorruptFile(f"audio track: not a NUT stream ({error.strerror})") from error
    if len(container.streams) != 1 or len(container.streams.audio) != 1:
        container.close()
        raise CorruptFile("audio track: the NUT stream does not hold exactly one audio track")
    return container, container.streams.audio[0]


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of one track; a missing duration is the distance to the next packet."""
    previous = None
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        if previous is not None:
            if not previous.duration:
                previous.duration = max(packet.pts - previous.pts, 0)
            yield previous
        previous = packet
    if previous is not None:
        yield previous
