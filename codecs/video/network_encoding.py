"""Encoding a fitted network: read the clip, fit, quantise, write, and measure what was written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from ...formats.chunk import Chunk
from ...formats.header import Header
from .bitstream import pack_tensors
from .clip_settings import encoded_size
from .network_file import AUDIO, EMBEDDINGS, TIMES, WEIGHTS, NetworkHeader, read_content
from .quality import psnr_of_frames
from .quantiser import quantise
from .reconstruction import Reconstruction
from .source_frames import load_clip
from .timing import Timing, pack_differences

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.media_source import VideoSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .clip_settings import FitParameters
    from .frame_decoder import FrameDecoder
    from .network_structure import NetworkStructure
    from .source_frames import Clip

__all__ = ["Fitted", "NetworkFit", "encode"]

S = TypeVar("S", bound="NetworkStructure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A decoder, and the embeddings float32 [T, C, rows, columns] that it needs, if it does."""

    decoder: FrameDecoder
    embeddings: NDArray[np.float32] | None


class NetworkFit(Protocol[S]):
    """What one codec of this kind does: choose a network and fit it."""

    def structure(self, *, frames: int, height: int, width: int) -> S:
        """The network for a clip; raises :class:`InvalidParameter`."""
        ...

    def fit(self, clip: Clip, structure: S, context: RunContext) -> Fitted:
        """Fit the network to the clip."""
        ...


def encode(
    source: VideoSource,
    sink: ContainerWriter,
    params: FitParameters,
    network: NetworkFit[S],
    *,
    codec: str,
    bitstream: int,
    context: RunContext,
) -> Mapping[str, Figure]:
    """Write header and chunks; return the figures of the encode report, measured on the quantised data written."""
    clip, tracks = _read(source, params, context)
    frames, height, width, _ = clip.pictures.shape
    header: NetworkHeader[S] = NetworkHeader(
        frames=frames,
        properties=replace(source.properties, width=width, height=height),
        timing=Timing.of(clip.timeline.timestamps, clip.timeline.end_tick),
        structure=network.structure(frames=frames, height=height, width=width),
    )
    fitted = network.fit(clip, header.structure, context)
    chunks = _pack(fitted, header)
    if header.timing.step == 0:
        chunks[TIMES] = pack_differences(clip.timeline.timestamps)
    sink.write_header(Header(codec=codec, bitstream=bitstream, parameters=header.as_json()))
    for kind, payload in chunks.items():
        sink.write_chunk(kind, payload, span=(0, frames))
    for payload in tracks:
        sink.write_chunk(AUDIO, payload, span=(0, frames))
    return {
        "psnr_db": _measure(clip, header, chunks, context),
        "frames": frames,
        "width": width,
        "height": height,
        "decoder_parameters": header.structure.decoder_parameters,
        "weights_bytes": len(chunks[WEIGHTS]),
        "embeddings_bytes": len(chunks.get(EMBEDDINGS, b"")),
        "audio_bytes": sum(len(payload) for payload in tracks),
        "device": context.torch_device(),
    }


def _read(source: VideoSource, params: FitParameters, context: RunContext) -> tuple[Clip, list[bytes]]:
    properties = source.properties
    size = encoded_size(params, properties.width, properties.height)
    if size != (properties.width, properties.height) and params.size is None:
        context.warning(f"pictures are shrunk to {size[0]}x{size[1]}; set size or max_pixels to choose")
    clip = load_clip(
        source,
        size=size,
        frames=(params.frames.start, params.frames.stop),
        limits=context.limits,
        on_frame=lambda count: context.report("reading", count, None, unit="frames"),
    )
    tracks = source.audio(clip.timeline.begin, clip.timeline.end) if params.audio == "keep" else []
    for note in source.notes:
        context.warning(note)
    return clip, [track.to_bytes() for track in tracks]


def _pack(fitted: Fitted, header: NetworkHeader[S]) -> dict[str, bytes]:
    values = [value.detach().float().cpu().contiguous().numpy() for value in fitted.decoder.parameters()]
    chunks = {WEIGHTS: pack_tensors([quantise(value, header.weight_bits) for value in values])}
    if fitted.embeddings is not None:
        chunks[EMBEDDINGS] = pack_tensors([quantise(fitted.embeddings, header.embedding_bits)])
    return chunks


def _measure(clip: Clip, header: NetworkHeader[S], chunks: Mapping[str, bytes], context: RunContext) -> float:
    """Mean per-frame PSNR of what a decoder makes of ``chunks``."""
    written = [
        Chunk(type=kind, sequence=number, offset=0, span=None, decoded_size=0, payload=payload)
        for number, (kind, payload) in enumerate(chunks.items())
    ]
    content = read_content(header, written)
    decoder = Reconstruction(
        header.structure,
        content.parameters,
        content.embeddings,
        size=(header.properties.height, header.properties.width),
        timestamps=content.timestamps,
        context=context,
    )
    values = psnr_of_frames(clip.pictures, decoder.batches(range(len(decoder))), context)
    return sum(values) / len(values)
