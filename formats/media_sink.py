"""Clips as outputs: the interface every video sink offers, and media files written through PyAV."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from .atomic_file import AtomicFile, output_errors
from .errors import InvalidParameter, OutputFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from .media_audio import AudioTrack, AudioWriter
    from .media_properties import VideoProperties

__all__ = ["FORMATS", "MediaFileSink", "MediaFormat", "StreamSink", "VideoSink"]


class VideoSink(ABC):
    """Where decoded frames go: ``begin``, any number of ``write``, ``commit``; a context manager.

    Leaving it without commit leaves nothing behind. ``notes`` says what the output's format could not hold.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self.notes: list[str] = []
        self._properties: VideoProperties | None = None

    @property
    def properties(self) -> VideoProperties:
        """What ``begin`` was given."""
        if self._properties is None:
            raise InvalidParameter("begin() must come before frames are written")
        return self._properties

    def begin(self, properties: VideoProperties, audio: Sequence[AudioTrack]) -> None:
        """Tell what follows. Formats without sound drop ``audio`` and note it."""
        self._properties = properties
        if audio:
            self.notes.append("the output's format holds no sound: the audio was left out")

    @abstractmethod
    def write(self, pixels: NDArray[np.uint8], pts: list[int], durations: list[int]) -> None:
        """Append frames, uint8 RGB [N, H, W, 3], with their timestamps and durations in ticks."""

    @abstractmethod
    def commit(self) -> None:
        """Make the output final."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFormat:
    """How frames are stored under one file name suffix."""

    container: str
    codec: str
    pixel_format: str
    odd_pixel_format: str
    options: Mapping[str, str]
    rgb: bool
    sound: bool
    timestamps: bool


# crf 10 keeps the loss of H.264 far below that of any neural codec here. Without B-frames packets are in display
# order, so that MP4 holds every frame's duration exactly. 4:2:0 needs even sides.
FORMATS = {
    ".mp4": MediaFormat(
        container="mp4",
        codec="libx264",
        pixel_format="yuv420p",
        odd_pixel_format="yuv444p",
        options={"crf": "10", "preset": "medium", "bf": "0"},
        rgb=False,
        sound=True,
        timestamps=True,
    ),
    ".mkv": MediaFormat(
        container="matroska",
        codec="ffv1",
        pixel_format="bgr0",
        odd_pixel_format="bgr0",
        options={"level": "3"},
        rgb=True,
        sound=True,
        timestamps=True,
    ),
    ".y4m": MediaFormat(
        container="yuv4mpegpipe",
        codec="wrapped_avframe",
        pixel_format="yuv444p",
        odd_pixel_format="yuv444p",
        options={},
        rgb=False,
        sound=False,
        timestamps=False,
    ),
}


class MediaFileSink(VideoSink):
    """A media file that appears atomically."""

    def __init__(self, path: str | os.PathLike[str], media: MediaFormat, *, overwrite: bool) -> None:
        super().__init__()
        self._file = AtomicFile(path, overwrite=overwrite)
        self._encoder = _Encoder(self._file.stream, media, str(path))

    def begin(self, properties: VideoProperties, audio: Sequence[AudioTrack]) -> None:
        self._properties = properties
        self.notes += self._encoder.begin(properties, audio)

    def write(self, pixels: NDArray[np.uint8], pts: list[int], durations: list[int]) -> None:
        self._encoder.write(pixels, pts, durations)

    def commit(self) -> None:
        self._encoder.finish()
        self.size_bytes = self._file.stream.seek(0, os.SEEK_END)
        self._file.commit()

    def __exit__(self, *details: object) -> None:
        self._encoder.abandon()
        self._file.__exit__(*details)


class StreamSink(VideoSink):
    """YUV4MPEG2 on an open binary stream, such as a pipe to a player; frames leave as they come."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = _CountingStream(stream)
        self._encoder = _Encoder(self._stream, FORMATS[".y4m"], "output stream")

    def begin(self, properties: VideoProperties, audio: Sequence[AudioTrack]) -> None:
        self._properties = properties
        self.notes += self._encoder.begin(properties, audio)

    def write(self, pixels: NDArray[np.uint8], pts: list[int], durations: list[int]) -> None:
        self._encoder.write(pixels, pts, durations)

    def commit(self) -> None:
        self._encoder.finish()
        self.size_bytes = self._stream.size_bytes

    def __exit__(self, *details: object) -> None:
        self._encoder.abandon()


class _CountingStream:
    """What PyAV needs of a stream that cannot seek."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


class _Encoder:
    """One PyAV output: encodes frames, keeps timestamps exact, interleaves audio packets."""

    def __init__(self, stream: Any, media: MediaFormat, name: str) -> None:
        self._target = stream
        self._media = media
        self._name = name
        self._output: Any = None
        self._video: Any = None
        self._audio: AudioWriter | None = None
        self._durations: dict[int, int] = {}
        self._count = 0

    def begin(self, properties: VideoProperties, audio: Sequence[AudioTrack]) -> list[str]:
        """Add the streams; return notes on what was left out."""
        import av

        from .media_audio import AudioWriter
        from .media_colour import encoded_colour

        media, notes = self._media, []
        self._properties = properties
        self._colour = properties.colour if media.rgb else encoded_colour(properties.colour)
        odd = properties.width % 2 or properties.height % 2
        self._pixel_format = media.odd_pixel_format if odd else media.pixel_format
        with _media_errors(self._name):
            self._output = av.open(self._target, "w", format=media.container)
            video = self._output.add_stream(media.codec, rate=properties.frame_rate, options=dict(media.options))
            self._video = video
            video.width, video.height, video.pix_fmt = properties.width, properties.height, self._pixel_format
            self._time_base = properties.time_base if media.timestamps else 1 / properties.frame_rate
            video.codec_context.time_base = self._time_base
            video.time_base = self._time_base
            video.sample_aspect_ratio = properties.pixel_aspect
            if properties.display_matrix is not None:
                video.set_display_matrix(properties.display_matrix)
            if not media.rgb:
                video.codec_context.colorspace = self._colour.matrix
            video.codec_context.color_range = self._colour.range
            video.codec_context.color_primaries = self._colour.primaries
            video.codec_context.color_trc = self._colour.transfer
            if media.sound:
                self._audio = AudioWriter(self._output, audio)
                notes += [f"{media.container} cannot hold {name} audio: left out" for name in self._audio.skipped]
            elif audio:
                notes.append(f"{media.container} holds no sound: the audio was left out")
            if media.container == "matroska" and properties.pixel_aspect != 1:
                notes.append(f"the pixel aspect {properties.pixel_aspect} could not be stored in Matroska")
            self._output.start_encoding()
        return notes

    def write(self, pixels: NDArray[np.uint8], pts: list[int], durations: list[int]) -> None:
        from .media_colour import frame_from_rgb

        with _media_errors(self._name):
            for picture, tick, duration in zip(pixels, pts, durations, strict=True):
                frame = frame_from_rgb(picture, self._pixel_format, self._colour)
                frame.time_base = self._time_base
                frame.pts = tick if self._media.timestamps else self._count
                self._count += 1
                if self._media.timestamps:
                    self._durations[tick] = duration
                if self._audio is not None:
                    self._audio.write_until(tick * self._time_base)
                self._mux(self._video.encode(frame))

    def finish(self) -> None:
        with _media_errors(self._name):
            self._mux(self._video.encode(None))
            if self._audio is not None:
                self._audio.write_until(None)
            self._output.close()
            self._output = None

    def abandon(self) -> None:
        """Let go of an unfinished output; what it still tries to write is of no interest."""
        import av

        if self._output is not None:
            output, self._output = self._output, None
            try:
                output.close()
            except (av.error.FFmpegError, OSError, ValueError):
                return  # the error that led here is already on its way up

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            self._output.mux(packet)


class _media_errors:  # noqa: N801 - used like a function
    """Turn FFmpeg's errors while writing into :class:`OutputFailure`; the system's keep their own messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._system = output_errors(name)

    def __enter__(self) -> None:
        self._system.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        import av

        if isinstance(error, av.error.FFmpegError) and error.errno is not None and error.errno < 0:
            raise OutputFailure(f"{self._name}: FFmpeg cannot write this output ({error.strerror})") from error
        return self._system.__exit__(kind, error, trace)
