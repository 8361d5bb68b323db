"""What is compressed: items of five kinds, how each is read, and by what its size is divided to give a rate.

In memory an image is uint8 [H, W, 3] (RGB), a clip ``Clip``, a recording ``Sound``, a text ``bytes``, and a cache an
array float16 or float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..codecs.parameters import Range, Size
from ..formats.errors import InvalidParameter, UnsupportedInput
from ..formats.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ITEM_KINDS", "Clip", "Item", "Sound", "load_item"]

ITEM_KINDS = ("image", "audio", "video", "bytes", "tensors")
_OPTIONS = {"video": {"size", "frames"}, "bytes": {"first_bytes"}}


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording: ``samples`` float32 [N, channels] in -1 to 1, ``rate`` in hertz."""

    samples: NDArray[np.float32]
    rate: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip without sound: ``frames`` uint8 [T, H, W, 3], ``rate`` in frames a second."""

    frames: NDArray[np.uint8]
    rate: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to compress: a file, what its true label is if known, and how it is to be read.

    ``options``: of video ``size`` (``320x160``) and ``frames`` (``0:16``), of bytes ``first_bytes``.
    """

    data_set: str
    name: str
    kind: str
    path: Path
    label: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in ITEM_KINDS:
            raise InvalidParameter(
                f"data set {self.data_set}: no kind is called {self.kind!r}; {', '.join(ITEM_KINDS)}"
            )
        unknown = sorted(self.options.keys() - _OPTIONS.get(self.kind, set()))
        if unknown:
            raise InvalidParameter(f"data set {self.data_set}: {self.kind} cannot be read with {', '.join(unknown)}")

    def content_hash(self) -> str:
        """SHA-256 over the file's bytes and how it is read; raises :class:`UnsupportedInput` when unreadable."""
        try:
            digest = hashlib.sha256(self.path.read_bytes())
        except OSError as error:
            raise UnsupportedInput(f"{self.path} cannot be read: {error.strerror or error}") from error
        digest.update(repr((self.kind, sorted(self.options.items()))).encode())
        return digest.hexdigest()


def load_item(item: Item) -> Any:
    """Read an item into memory; raises :class:`UnsupportedInput` and what the readers of ``formats`` raise."""
    return _LOADERS[item.kind](item)


def _load_image(item: Item) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(item.path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnsupportedInput(f"{item.path} is not a readable picture: {error}") from error


def _load_audio(item: Item) -> Sound:
    from .audio_files import read_audio

    return read_audio(item.path)


def _load_video(item: Item) -> Clip:
    from ..codecs.video.source_frames import load_frames
    from ..formats.kinds import open_source

    size = Size.parse(item.options["size"]) if "size" in item.options else None
    frames = Range.parse(item.options.get("frames", "0:"))
    with open_source("video", item.path, limits=DEFAULT_LIMITS) as source:
        rate = getattr(source.properties, "frame_rate", None)
        pictures = load_frames(
            source, size=(size.width, size.height) if size else None, frames=(frames.start, frames.stop)
        )
    return Clip(pictures, Fraction(rate) if rate else Fraction(25))


def _load_bytes(item: Item) -> bytes:
    try:
        with item.path.open("rb") as stream:
            return stream.read(int(item.options.get("first_bytes", -1)))
    except OSError as error:
        raise UnsupportedInput(f"{item.path} cannot be read: {error.strerror or error}") from error


def _load_tensors(item: Item) -> Any:
    import numpy as np

    try:
        array = np.load(item.path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UnsupportedInput(f"{item.path} is not a readable .npy file: {error}") from error
    if array.dtype not in (np.float16, np.float32):
        raise UnsupportedInput(f"{item.path} holds {array.dtype}; float16 and float32 are taken")
    return array


_LOADERS = {
    "image": _load_image,
    "audio": _load_audio,
    "video": _load_video,
    "bytes": _load_bytes,
    "tensors": _load_tensors,
}
