"""Encoding with ``gridnerv``: find the segments, fit each for rate and distortion, write and measure it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...formats.chunk import OVERHEAD
from ...formats.errors import InvalidParameter
from ...formats.header import Header
from .clip_header import AUDIO, TIMES
from .clip_settings import encoded_size
from .grid_file import LATENTS, NETWORK, GridHeader
from .grid_fitting import fit_segment
from .grid_playback import SegmentDecoder
from .quality import psnr_of_frames
from .segments import change_between, cut_segments, gather, thumbnail
from .source_frames import ClipReading
from .timing import Timing, pack_differences

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.media_source import VideoSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .grid_fitting import EncodedSegment
    from .grid_parameters import GridParameters
    from .segments import Segment

__all__ = ["encode"]

_CLOSING_BYTES = 160  # index, end and footer of a file with one segment, about
_INDEX_BYTES = 24  # what the index says of one chunk, about


def encode(
    source: VideoSource,
    sink: ContainerWriter,
    params: GridParameters,
    *,
    codec: str,
    bitstream: int,
    context: RunContext,
) -> Mapping[str, Figure]:
    """Write header and chunks; return the figures of the encode report, measured on the data written."""
    reading, header = _survey(source, params, context)
    timeline = reading.timeline
    tracks = source.audio(timeline.begin, timeline.end) if params.audio == "keep" else []
    chunks = [(AUDIO, track.to_bytes()) for track in tracks]
    if header.timing.step == 0:
        chunks.insert(0, (TIMES, pack_differences(timeline.timestamps)))
    file_header = Header(codec=codec, bitstream=bitstream, parameters=header.as_json())
    sink.write_header(file_header)
    for kind, payload in chunks:
        sink.write_chunk(kind, payload, span=(0, header.frames))
    overhead = len(file_header.to_bytes()) + _CLOSING_BYTES + sum(OVERHEAD + len(payload) for _, payload in chunks)
    budget = _Budget(header, params, overhead)
    totals = _Totals()
    folder = context.checkpoint_folder
    for number, pictures in enumerate(gather(reading, header.segments)):
        segment = header.segments[number]
        own = context if folder is None else replace(context, checkpoint_folder=folder / f"segment-{number:05}")
        result = fit_segment(pictures, header, params, budget.bits_of(segment), own)
        for kind, payload in ((NETWORK, result.network), (LATENTS, result.latents)):
            sink.write_chunk(kind, payload, span=(segment.start, segment.stop))
        budget.spend(segment, len(result.network) + len(result.latents))
        totals.add(result, pictures, header, context)
    for note in source.notes:
        context.warning(note)
    return {
        **totals.figures(),
        "frames": header.frames,
        "width": header.properties.width,
        "height": header.properties.height,
        "segments": len(header.segments),
        "decoder_parameters": header.structure.decoder_parameters,
        "audio_bytes": sum(len(payload) for kind, payload in chunks if kind == AUDIO),
        "device": context.torch_device(),
    }


class _Budget:
    """What is left of the file's target size, shared among the segments by their length."""

    def __init__(self, header: GridHeader, params: GridParameters, overhead_bytes: int) -> None:
        pixels = header.frames * header.properties.width * header.properties.height
        self._framing = 2 * (OVERHEAD + _INDEX_BYTES)
        self._left_bits = params.target_bits(pixels)
        self._left_frames = header.frames
        if self._left_bits is not None:
            fixed = 8 * (overhead_bytes + len(header.segments) * self._framing)
            if fixed >= self._left_bits:
                raise InvalidParameter(
                    f"the target of {self._left_bits / 8:,.0f} bytes cannot be reached: header, sound and framing "
                    f"alone take {fixed / 8:,.0f}; audio=drop leaves the sound out"
                )
            self._left_bits -= fixed

    def bits_of(self, segment: Segment) -> float | None:
        """The target of ``segment``, the next one; None without a target."""
        if self._left_bits is None:
            return None
        return max(self._left_bits, 1.0) * len(segment) / self._left_frames

    def spend(self, segment: Segment, payload_bytes: int) -> None:
        """Take what ``segment`` used from what is left."""
        self._left_frames -= len(segment)
        if self._left_bits is not None:
            self._left_bits -= 8 * payload_bytes


class _Totals:
    """Sums over segments for the report."""

    def __init__(self) -> None:
        self._psnr: list[float] = []
        self._network = self._latents = 0
        self._estimated = 0.0

    def add(self, result: EncodedSegment, pictures: NDArray[np.uint8], header: GridHeader, context: RunContext) -> None:
        decoder = SegmentDecoder(header, result.network, result.latents, frames=len(pictures), context=context)
        self._psnr += psnr_of_frames(pictures, decoder.pictures(range(len(pictures))), context)
        self._network += len(result.network)
        self._latents += len(result.latents)
        self._estimated += result.estimated_bits

    def figures(self) -> dict[str, Figure]:
        return {
            "psnr_db": sum(self._psnr) / len(self._psnr),
            "network_bytes": self._network,
            "latents_bytes": self._latents,
            "estimated_bytes": round(self._estimated / 8, 1),
        }


def _survey(source: VideoSource, params: GridParameters, context: RunContext) -> tuple[ClipReading, GridHeader]:
    """Read the clip once without keeping it: its timing and where its segments begin."""
    properties = source.properties
    size = encoded_size(params, properties.width, properties.height)
    if size != (properties.width, properties.height) and params.size is None:
        context.warning(f"pictures are shrunk to {size[0]}x{size[1]}; set size or max_pixels to choose")
    reading = ClipReading(source, size=size, frames=(params.frames.start, params.frames.stop), limits=context.limits)
    changes = []
    before = None
    for count, picture in enumerate(reading, 1):
        context.report("looking for scenes", count, None, unit="frames")
        small = thumbnail(picture)
        if before is not None:
            changes.append(change_between(before, small))
        before = small
    longest = max(params.longest_segment, params.shortest_segment)
    timeline = reading.timeline
    header = GridHeader(
        frames=len(timeline.timestamps),
        properties=replace(properties, width=size[0], height=size[1]),
        timing=Timing.of(timeline.timestamps, timeline.end_tick),
        structure=params.structure(height=size[1], width=size[0]),
        segments=cut_segments(changes, shortest=params.shortest_segment, longest=longest),
    )
    header.check(context.limits)
    return reading, header
