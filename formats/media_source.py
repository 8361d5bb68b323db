"""Clips as inputs: the interface every video source offers, and media files read through PyAV."""

from __future__ import annotations

import array
import io
import os
from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from .errors import CorruptFile, InvalidParameter, UnsupportedInput
from .media_properties import TimedFrame, VideoProperties
from .spooling import is_stream_path, spooled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .limits import Limits
    from .media_audio import AudioTrack

__all__ = ["DEFAULT_FRAME_RATE", "MediaFileSource", "VideoSource", "open_stream"]

DEFAULT_FRAME_RATE = Fraction(25)
_IDENTITY = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


class VideoSource(ABC):
    """A clip to be read once, forward; a context manager.

    ``notes`` collects remarks the caller should see (bit depth reduced, timestamps repaired); complete at the end.
    """

    def __init__(self, properties: VideoProperties, *, name: str, size_bytes: int) -> None:
        self.properties = properties
        self.name = name
        self.size_bytes = size_bytes
        self.notes: list[str] = []

    @abstractmethod
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[TimedFrame]:
        """Frames ``start`` to ``stop`` (exclusive; None: the end) in display order, one at a time in memory.

        Timestamps increase strictly. Raises :class:`CorruptFile` and :class:`UnsupportedInput`.
        """

    def audio(self, begin: Fraction | None = None, end: Fraction | None = None) -> list[AudioTrack]:
        """The audio heard from ``begin`` to ``end`` in seconds, timed relative to ``begin``; none by default."""
        return []

    def close(self) -> None:
        """Release what the source holds open."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# FFmpeg goes by file names too: to it any .txt or .bin is a screen of characters
_TEXT_ART = frozenset({"tty", "bin", "xbin", "adf", "idf"})


class MediaFileSource(VideoSource):
    """The first video stream of any file FFmpeg reads, from a seekable binary stream."""

    def __init__(self, stream: BinaryIO, *, name: str, owned: bool, limits: Limits) -> None:
        self._stream = stream
        self._owned = owned
        self._limits = limits
        size = stream.seek(0, io.SEEK_END)
        if size == 0:
            raise UnsupportedInput(f"{name} is empty")
        super().__init__(self._read_properties(name), name=name, size_bytes=size)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[TimedFrame]:
        from .media_colour import bit_depth, rgb_from_frame

        properties = self.properties
        clock = _Clock(self, properties)
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for number, frame in enumerate(self._decoded(container, stream)):
                if stop is not None and number >= stop:
                    break
                if number == 0 and bit_depth(frame) > 8:
                    self.notes.append(f"{self.name}: {bit_depth(frame)}-bit samples were rounded to 8 bits")
                pts = clock.tick(frame.pts)
                if number < start:
                    continue
                if (frame.width, frame.height) != (properties.width, properties.height):
                    raise UnsupportedInput(
                        f"{self.name}: the picture size changes from {properties.width}x{properties.height} to "
                        f"{frame.width}x{frame.height} at frame {number}; split the clip there"
                    )
                yield TimedFrame(pixels=rgb_from_frame(frame), pts=pts, duration=int(frame.duration or 0))

    def audio(self, begin: Fraction | None = None, end: Fraction | None = None) -> list[AudioTrack]:
        import av

        from .media_audio import extract_audio

        try:
            return extract_audio(self._stream, begin, end, self._limits)
        except (av.error.FFmpegError, ValueError) as error:
            self.notes.append(f"{self.name}: the audio could not be carried over ({error})")
            return []

    def close(self) -> None:
        if self._owned:
            self._stream.close()

    def _read_properties(self, name: str) -> VideoProperties:
        """Look at the first frame, after its size has been checked."""
        self.name, self.notes = name, []
        from .media_colour import colour_of

        with self._open() as container:
            if not container.streams.video:
                held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
                raise UnsupportedInput(f"{name} has no video stream (it holds {held})")
            stream = container.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            self._limits.check("max_dimension", max(width, height), f"the picture size {width}x{height}")
            self._limits.check("max_pixels", width * height, f"the picture size {width}x{height}")
            frame = next(iter(self._decoded(container, stream)), None)
            if frame is None:
                raise UnsupportedInput(f"{name} has a video stream without a single frame")
            rate = stream.average_rate or stream.guessed_rate or DEFAULT_FRAME_RATE
            return VideoProperties(
                width=frame.width,
                height=frame.height,
                time_base=stream.time_base or 1 / Fraction(rate),
                frame_rate=Fraction(rate),
                colour=colour_of(frame),
                pixel_aspect=stream.sample_aspect_ratio or Fraction(1),
                display_matrix=_display_matrix(frame),
            )

    def _open(self) -> Any:
        import av

        self._stream.seek(0)
        try:
            # the empty whitelist keeps playlist-like inputs from opening other files or addresses
            container = av.open(self._stream, options={"protocol_whitelist": "none"})
        except av.error.FFmpegError as error:
            raise CorruptFile(
                f"{self.name} is not a media file that FFmpeg reads, or it is damaged ({error.strerror})"
            ) from error
        if container.format.name in _TEXT_ART:
            container.close()
            raise UnsupportedInput(f"{self.name} is not a video (FFmpeg would draw its bytes as text)")
        return container

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        import av

        try:
            yield from container.decode(stream)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            raise CorruptFile(f"{self.name}: the video stream is damaged ({error.strerror})") from error


class _Clock:
    """Gives every frame its timestamp; invents and repairs only where the file has none or runs backwards."""

    def __init__(self, source: VideoSource, properties: VideoProperties) -> None:
        self._source = source
        self._step = properties.frame_ticks
        self._previous: int | None = None

    def tick(self, pts: int | None) -> int:
        previous = self._previous
        if pts is None or (previous is not None and pts <= previous):
            repaired = 0 if previous is None else previous + self._step
            note = f"{self._source.name}: missing or repeated timestamps were replaced"
            if note not in self._source.notes:
                self._source.notes.append(note)
            pts = repaired
        self._previous = int(pts)
        return self._previous


def open_stream(value: Any, limits: Limits) -> tuple[BinaryIO, str, bool]:
    """A seekable binary stream for a path, bytes or file object; its name; whether we have to close it.

    A stream that cannot seek is copied to a temporary file.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return io.BytesIO(value), "bytes", True
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        try:
            stream = path.open("rb")
            if stream.seekable() and not is_stream_path(path):
                return stream, str(path), True
            with stream:
                return spooled(stream, limits=limits, name=str(path)), str(path), True
        except OSError as error:
            raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    if not hasattr(value, "read"):
        raise UnsupportedInput(
            f"cannot read a video from a {type(value).__name__}; give a path, bytes, a binary file object, or uint8 "
            "frames [T, H, W, 3]"
        )
    name = str(getattr(value, "name", "stream"))
    if value.seekable():
        return value, name, False
    return spooled(value, limits=limits, name=name), name, True


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    matrix = tuple(array.array("i", bytes(data)))
    return None if matrix == _IDENTITY else matrix
