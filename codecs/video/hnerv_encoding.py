"""Encoding with HNeRV: read the clip, fit the network, quantise, write, and measure what was written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ...formats.header import Header
from .bitstream import pack_tensors
from .fitting import FitSettings, fit
from .frame_workers import FrameWorkers
from .hnerv_file import AUDIO, EMBEDDINGS, TIMES, WEIGHTS, ClipHeader, read_content
from .hnerv_network import HNeRV
from .hnerv_parameters import encoded_size
from .hnerv_structure import choose_strides, make_structure, padded_size
from .objective import PictureObjective, padded_batch
from .quality import psnr_of_frames
from .quantiser import quantise
from .reconstruction import Reconstruction
from .source_frames import load_clip
from .timing import Timing, pack_differences
from .torch_runtime import exact_float32, use_channels_last

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ...formats.media_source import VideoSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .hnerv_parameters import HNeRVParameters
    from .source_frames import Clip

__all__ = ["encode"]


def encode(
    source: VideoSource,
    sink: ContainerWriter,
    params: HNeRVParameters,
    *,
    codec: str,
    bitstream: int,
    context: RunContext,
) -> Mapping[str, Figure]:
    """Write header and chunks; return the figures of the encode report, measured on the quantised data written."""
    clip, tracks = _read(source, params, context)
    header = _clip_header(source, clip, params)
    model = _fit(clip, header, params, context)
    chunks = {
        WEIGHTS: pack_tensors([quantise(value, header.weight_bits) for value in _parameters(model)]),
        EMBEDDINGS: pack_tensors([quantise(_embed(model, clip, header, context), header.embedding_bits)]),
    }
    if header.timing.step == 0:
        chunks[TIMES] = pack_differences(clip.timeline.timestamps)
    sink.write_header(Header(codec=codec, bitstream=bitstream, parameters=header.as_json()))
    for kind, payload in chunks.items():
        sink.write_chunk(kind, payload, span=(0, header.frames))
    for payload in tracks:
        sink.write_chunk(AUDIO, payload, span=(0, header.frames))
    return {
        "psnr_db": _measure(clip, header, chunks, context),
        "frames": header.frames,
        "width": header.properties.width,
        "height": header.properties.height,
        "decoder_parameters": header.structure.decoder_parameters,
        "weights_bytes": len(chunks[WEIGHTS]),
        "embeddings_bytes": len(chunks[EMBEDDINGS]),
        "audio_bytes": sum(len(payload) for payload in tracks),
        "device": context.torch_device(),
    }


def _read(source: VideoSource, params: HNeRVParameters, context: RunContext) -> tuple[Clip, list[bytes]]:
    properties = source.properties
    size = encoded_size(params, properties.width, properties.height)
    if size != (properties.width, properties.height) and params.size is None:
        context.warning(f"pictures are shrunk to {size[0]}x{size[1]}; set size or max_pixels to choose")
    frames = (params.frames.start, params.frames.stop)
    clip = load_clip(
        source,
        size=size,
        frames=frames,
        limits=context.limits,
        on_frame=lambda count: context.report("reading", count, None, unit="frames"),
    )
    tracks = source.audio(clip.timeline.begin, clip.timeline.end) if params.audio == "keep" else []
    for note in source.notes:
        context.warning(note)
    return clip, [track.to_bytes() for track in tracks]


def _clip_header(source: VideoSource, clip: Clip, params: HNeRVParameters) -> ClipHeader:
    count, height, width, _ = clip.pictures.shape
    strides = choose_strides(height, width) if params.strides == "auto" else params.stride_list()
    padded = padded_size(height, width, strides)
    total = int(np.prod(strides))
    values = params.embedding * (padded[0] // total) * (padded[1] // total)
    structure = make_structure(
        width=width,
        height=height,
        frames=count,
        strides=strides,
        model_size=params.total_size(count, values),
        embedding=params.embedding,
        reduce=params.reduce,
        lower_width=params.lower_width,
    )
    return ClipHeader(
        frames=count,
        properties=replace(source.properties, width=width, height=height),
        timing=Timing.of(clip.timeline.timestamps, clip.timeline.end_tick),
        structure=structure,
    )


def _fit(clip: Clip, header: ClipHeader, params: HNeRVParameters, context: RunContext) -> HNeRV:
    settings = FitSettings(epochs=params.epochs, batch=params.batch, seed=params.seed, precision=params.precision)

    def objective(device: torch.device) -> PictureObjective[HNeRV]:
        model = use_channels_last(HNeRV(header.structure, encoder_width=params.encoder_width).to(device))
        padded = header.structure.picture
        return PictureObjective(model, clip.pictures, padded, lr=params.lr, distortion=F.mse_loss, device=device)

    identity = {"network": header.structure.as_json(), "encoder_width": params.encoder_width, "lr": params.lr}
    return fit(objective, clip.pictures, settings, context, identity=identity).model


def _parameters(model: HNeRV) -> list[NDArray[np.float32]]:
    return [value.detach().float().cpu().contiguous().numpy() for value in model.decoder.parameters()]


def _embed(model: HNeRV, clip: Clip, header: ClipHeader, context: RunContext) -> NDArray[np.float32]:
    """The embeddings of all frames, float32 [T, C, rows, columns]."""
    device = context.torch_device()

    def embed(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = padded_batch(torch.from_numpy(picture[None]).to(device), header.structure.picture)
        with torch.inference_mode(), exact_float32(device):
            embedding: NDArray[np.float32] = model.encoder(batch).float().cpu().contiguous().numpy()
        return embedding

    with FrameWorkers(context.threads, device) as workers:
        return np.concatenate(list(workers.map(embed, clip.pictures)))


def _measure(clip: Clip, header: ClipHeader, chunks: Mapping[str, bytes], context: RunContext) -> float:
    """Mean per-frame PSNR of what a decoder makes of ``chunks``."""
    from ...formats.chunk import Chunk

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
