"""Video in and out: the ``video`` kind. Frames are uint8 RGB, [H, W, 3] one by one or [T, H, W, 3] together.

Inputs: any media file FFmpeg reads (as path, bytes or binary file object), a folder of pictures, ``.npy``, NumPy arrays
and torch tensors. Outputs by suffix: ``.mp4`` (H.264, crf 10), ``.mkv`` (FFV1, bit-exact RGB), ``.y4m`` (4:4:4),
``.npy``, and for a path without suffix or with a trailing slash a folder of PNG files; a binary stream takes Y4M.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InvalidParameter, OutputFailure
from .media_arrays import ArraySource, MemorySink, NpySink, open_npy
from .media_sink import FORMATS, MediaFileSink, StreamSink, VideoSink
from .media_source import MediaFileSource, VideoSource, open_stream

if TYPE_CHECKING:
    from .limits import Limits

__all__ = ["VideoSink", "VideoSource", "memory_sink", "open_sink", "open_source"]


def open_source(value: Any, *, limits: Limits) -> VideoSource:
    """Open a clip for reading.

    Raises :class:`InvalidParameter` (no such file), :class:`UnsupportedInput` (no video in it, wrong shape),
    :class:`CorruptFile` and :class:`LimitExceeded`.
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return ArraySource(value, name="frames", limits=limits)
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        if not path.exists():
            raise InvalidParameter(f"{path} does not exist")
        if path.is_dir():
            from .media_folder import FolderSource

            return FolderSource(path, limits=limits)
        if path.suffix.lower() == ".npy":
            return open_npy(path, limits)
    stream, name, owned = open_stream(value, limits)
    try:
        return MediaFileSource(stream, name=name, owned=owned, limits=limits)
    except BaseException:
        if owned:
            stream.close()
        raise


def open_sink(target: Any, *, overwrite: bool, limits: Limits) -> VideoSink:
    """Open an output by its suffix; raises :class:`OutputFailure` for one that is not known."""
    if hasattr(target, "write"):
        return StreamSink(target)
    if not isinstance(target, (str, os.PathLike)):
        raise OutputFailure(f"cannot write to a {type(target).__name__}; give a path or a binary file object")
    text = os.fspath(target)
    suffix = Path(text).suffix.lower()
    if text.endswith(("/", os.sep)) or not suffix:
        from .media_folder import PngFolderSink

        return PngFolderSink(text, overwrite=overwrite)
    if suffix == ".npy":
        return NpySink(text, overwrite=overwrite)
    if suffix in FORMATS:
        return MediaFileSink(text, FORMATS[suffix], overwrite=overwrite)
    known = ", ".join([*FORMATS, ".npy"])
    raise OutputFailure(f"{text}: no video output is called {suffix}; there are {known}, and name/ for PNG files")


def memory_sink(*, limits: Limits) -> MemorySink:
    """A sink whose ``value`` is uint8 [T, H, W, 3]."""
    return MemorySink(limits)
