"""Encoding with ``gridnerv``: find the segments, fit each for rate and distortion, write and measure it."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...formats.errors import InvalidParameter
from ...formats.header import Header
from ...formats.writer import ContainerWriter
from .clip_header import AUDIO, TIMES
from .clip_settings import encoded_size
from .grid_file import LATENTS, NETWORK, GridHeader
from .grid_parallel import fit_segments
from .grid_playback import SegmentDecoder
from .grid_segment import MaskReading, SegmentTask, Start
from .quality import psnr_of_frames
from .segments import change_between, cut_segments, gather, thumbnail
from .source_frames import ClipReading
from .timing import Timing, pack_differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ...formats.media_source import VideoSource
    from ..protocol import Figure
    from ..run_context import RunContext
    from .grid_parameters import GridParameters
    from .grid_segment import EncodedSegment

__all__ = ["encode"]

_LARGEST_PLACEHOLDER = 1 << 16


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
    tasks = _tasks(reading, header, params, _segment_budget(header, params, file_header, chunks), context)
    totals = _Totals()
    for task, result in fit_segments(tasks, header, params, context):
        segment = header.segments[task.number]
        for kind, payload in ((NETWORK, result.network), (LATENTS, result.latents)):
            sink.write_chunk(kind, payload, span=(segment.start, segment.stop))
        totals.add(task, result, header, context)
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


def _tasks(
    reading: ClipReading,
    header: GridHeader,
    params: GridParameters,
    bits_per_frame: float | None,
    context: RunContext,
) -> Iterator[SegmentTask]:
    """The segments with what their fits need, one after the other."""
    width, height = header.properties.width, header.properties.height
    mask = start = None
    if params.mask is not None:
        first = params.frames.start
        mask = MaskReading(params.mask, width=width, height=height, first_frame=first, limits=context.limits)
    if params.start_from is not None:
        start = Start(params.start_from, header)
    for number, pictures in enumerate(gather(reading, header.segments)):
        segment = header.segments[number]
        yield SegmentTask(
            number=number,
            pictures=pictures,
            visible=None if mask is None else mask.of(segment),
            start=None if start is None else start.of(segment),
            target_bits=None if bits_per_frame is None else bits_per_frame * len(segment),
        )


def _segment_budget(
    header: GridHeader, params: GridParameters, file_header: Header, front: Sequence[tuple[str, bytes]]
) -> float | None:
    """Bits of the chunks' payloads a frame, so that the whole file has its target size; None without a target."""
    bits = params.target_bits(header.frames * header.properties.width * header.properties.height)
    if bits is None:
        return None
    # a file with segments of about the size to come: what it has beside them is what the real one will have
    placeholder = bytes(min(round(bits / 16 / len(header.segments)), _LARGEST_PLACEHOLDER))
    trial = io.BytesIO()
    writer = ContainerWriter(trial, compact=True)
    writer.write_header(file_header)
    for kind, payload in front:
        writer.write_chunk(kind, payload, span=(0, header.frames))
    for segment in header.segments:
        for kind in (NETWORK, LATENTS):
            writer.write_chunk(kind, placeholder, span=(segment.start, segment.stop))
    fixed = 8 * (writer.finish() - 2 * len(header.segments) * len(placeholder))
    if fixed >= bits:
        raise InvalidParameter(
            f"the target of {bits / 8:,.0f} bytes cannot be reached: header, sound and framing alone take "
            f"{fixed / 8:,.0f}; audio=drop leaves the sound out"
        )
    return (bits - fixed) / header.frames


class _Totals:
    """Sums over segments for the report."""

    def __init__(self) -> None:
        self._psnr: list[float] = []
        self._visible_error = self._visible_samples = 0
        self._network = self._latents = 0
        self._estimated = 0.0

    def add(self, task: SegmentTask, result: EncodedSegment, header: GridHeader, context: RunContext) -> None:
        frames = len(task.pictures)
        decoder = SegmentDecoder(header, result.network, result.latents, frames=frames, context=context)
        decoded = np.concatenate(list(decoder.pictures(range(frames))))
        self._psnr += psnr_of_frames(task.pictures, [decoded], context)
        if task.visible is not None:
            for original, visible, made in zip(task.pictures, task.visible, decoded, strict=True):
                difference = (original.astype(np.int64) - made)[visible]
                self._visible_error += int((difference * difference).sum())
                self._visible_samples += difference.size
        self._network += len(result.network)
        self._latents += len(result.latents)
        self._estimated += result.estimated_bits

    def figures(self) -> dict[str, Figure]:
        visible = {}
        if self._visible_samples:
            mean_square = max(self._visible_error, 1) / self._visible_samples
            visible["visible_psnr_db"] = 10 * math.log10(255**2 / mean_square)
        return {
            "psnr_db": sum(self._psnr) / len(self._psnr),
            **visible,
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
