"""Recordings in and out of audio files through PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..formats.errors import UnsupportedInput
from .items import Sound

__all__ = ["read_audio", "write_audio"]


def read_audio(path: Path, *, rate: int | None = None) -> Sound:
    """Decode the first audio stream of ``path``, resampled to ``rate`` where given.

    Raises :class:`UnsupportedInput` when it holds none that can be decoded.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UnsupportedInput(f"{path} holds no audio")
            stream = container.streams.audio[0]
            target = rate or stream.rate
            resampler = av.AudioResampler(format="fltp", rate=target)
            pieces: list[NDArray[np.float32]] = []
            for frame in container.decode(stream):
                pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
            if pieces:
                pieces += [piece.to_ndarray() for piece in resampler.resample(None)]
    except av.FFmpegError as error:
        raise UnsupportedInput(f"{path} is not readable audio: {error}") from error
    if not pieces:
        raise UnsupportedInput(f"{path} holds no audio samples")
    return Sound(np.ascontiguousarray(np.concatenate(pieces, axis=1).T, dtype=np.float32), target)


def write_audio(
    path: Path,
    sound: Sound,
    *,
    encoder: str,
    container_format: str,
    bit_rate: int | None,
    options: Mapping[str, str],
    container_options: Mapping[str, str],
) -> None:
    """Encode ``sound`` into a file of its own; ``bit_rate`` is in bits a second.

    Raises :class:`UnsupportedInput` when the encoder does not take this rate or number of channels.
    """
    channels = sound.samples.shape[1]
    layout = {1: "mono", 2: "stereo"}.get(channels)
    if layout is None:
        raise UnsupportedInput(f"{channels} channels; the audio codecs here take one or two")
    try:
        with av.open(str(path), "w", format=container_format, container_options=dict(container_options)) as container:
            stream: Any = container.add_stream(encoder, rate=sound.rate, options=dict(options))
            stream.layout = layout
            stream.codec_context.thread_count = 1
            if bit_rate is not None:
                stream.bit_rate = bit_rate
            sample_format = stream.codec_context.codec.audio_formats[0].name
            resampler = av.AudioResampler(format=sample_format, layout=layout, rate=sound.rate)
            samples = np.ascontiguousarray(sound.samples.T, dtype=np.float32)  # [channels, N], as PyAV's planar format
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = sound.rate, 0
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None and error.errno == 28:
            raise
        raise UnsupportedInput(f"{encoder} cannot encode {channels} channel(s) at {sound.rate} Hz: {error}") from error
