"""One picture: 8-bit pixels and the metadata that travels with them, to and from Pillow."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CorruptFile, InvalidParameter, TruncatedFile, UnsupportedInput
from .picture_modes import CHANNELS_OF_MODE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

    from .limits import Limits

__all__ = [
    "LOSSLESS_FORMATS",
    "METADATA_KEYS",
    "Picture",
    "array_of_file",
    "check_size",
    "decoded",
    "encoded",
    "npy_bytes",
    "opened",
]

_MODE_OF_CHANNELS = {count: mode for mode, count in CHANNELS_OF_MODE.items()}

METADATA_KEYS = ("icc", "exif", "xmp", "resolution", "transparency")
"""``resolution`` is two little-endian uint32, pixels per metre; ``transparency`` the colour, 16 bits each."""

LOSSLESS_FORMATS = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}

_INCHES_PER_METRE = 1 / 0.0254
_RESOLUTION = struct.Struct("<II")
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError)
_bomb_lock = threading.Lock()


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """``pixels`` is uint8 ``[height, width, channels]``: L, LA, RGB or RGBA by their number.

    ``flat`` remembers that an array came without a channel axis. ``metadata`` has the keys :data:`METADATA_KEYS`.
    """

    pixels: NDArray[np.uint8]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    flat: bool = False

    @property
    def mode(self) -> str:
        """Pillow's name of the pixel format."""
        return _MODE_OF_CHANNELS[self.pixels.shape[2]]

    def to_array(self) -> NDArray[np.uint8]:
        """The pixels as a user expects them: without a channel axis where there is one grey channel."""
        return self.pixels[:, :, 0] if self.pixels.shape[2] == 1 else self.pixels


def check_size(width: int, height: int, limits: Limits, name: str) -> None:
    """Raise :class:`LimitExceeded` before anything of that size is allocated."""
    limits.check("max_dimension", max(width, height), f"{name} ({width}x{height})")
    limits.check("max_pixels", width * height, f"{name} ({width}x{height})")


def opened(data: bytes, name: str) -> PillowImage:
    """The image file in ``data``, its pixels not yet decoded."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise TruncatedFile(f"{name} is empty; it holds no image")
    try:
        with _without_pixel_limit():
            return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise CorruptFile(f"{name} is not an image that can be read here; is it damaged?") from error
    except _PILLOW_ERRORS as error:
        raise CorruptFile(f"{name} is damaged: {error}") from error


def decoded(image: PillowImage, name: str) -> Picture | None:
    """The picture of an opened image, or None where a :class:`Picture` cannot hold all of it."""
    if image.mode not in CHANNELS_OF_MODE or getattr(image, "n_frames", 1) > 1 or _is_deeper(image):
        load(image, name)
        return None
    load(image, name)
    pixels = np.array(image)
    return Picture(
        pixels=pixels.reshape(image.height, image.width, CHANNELS_OF_MODE[image.mode]),
        metadata=_metadata(image),
    )


def load(image: PillowImage, name: str) -> None:
    """Decode the pixels now, so that damage shows; raises :class:`CorruptFile`."""
    try:
        image.load()
    except _PILLOW_ERRORS as error:
        kind = TruncatedFile if "truncated" in str(error).lower() else CorruptFile
        raise kind(f"{name} is damaged: {error}") from error


def encoded(picture: Picture, suffix: str) -> bytes:
    """``picture`` as a lossless image file of the format ``suffix`` names.

    Raises :class:`InvalidParameter` for lossy formats and :class:`UnsupportedInput` where the format lacks the mode.
    """
    from PIL import Image

    if suffix == ".npy":
        return npy_bytes(picture.to_array())
    if suffix not in LOSSLESS_FORMATS:
        names = ", ".join([*LOSSLESS_FORMATS, ".npy"])
        raise InvalidParameter(f"{suffix or 'no suffix'} is not a lossless image format; use one of {names}")
    file_format = LOSSLESS_FORMATS[suffix]
    image = Image.fromarray(np.ascontiguousarray(picture.to_array()), picture.mode)
    buffer = io.BytesIO()
    try:
        image.save(buffer, file_format, **_save_settings(picture, file_format))
    except (OSError, ValueError, KeyError) as error:
        raise UnsupportedInput(f"{file_format} cannot hold this {picture.mode} image: {error}") from error
    return buffer.getvalue()


def array_of_file(data: bytes, name: str) -> NDArray[Any]:
    """The pixels of an image file as Pillow gives them, first frame, in the file's own mode."""
    if data.startswith(b"\x93NUMPY"):
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        return array
    image = opened(data, name)
    load(image, name)
    return np.asarray(image)


def npy_bytes(array: NDArray[Any]) -> bytes:
    """``array`` as an ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _is_deeper(image: PillowImage) -> bool:
    """Whether the file has more than 8 bits a sample and Pillow would drop some."""
    raw_modes = [str(tile[3]) for tile in getattr(image, "tile", ())]
    return any(";16" in mode or "16B" in mode or "16N" in mode or "16L" in mode for mode in raw_modes)


def _metadata(image: PillowImage) -> dict[str, bytes]:
    info = image.info
    found: dict[str, bytes] = {}
    if info.get("icc_profile"):
        found["icc"] = bytes(info["icc_profile"])
    if info.get("exif"):
        found["exif"] = bytes(info["exif"])
    xmp = info.get("xmp", info.get("XML:com.adobe.xmp"))
    if xmp:
        found["xmp"] = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    if "dpi" in info:
        horizontal, vertical = (round(float(value) * _INCHES_PER_METRE) for value in info["dpi"])
        if 0 < horizontal < 1 << 32 and 0 < vertical < 1 << 32:
            found["resolution"] = _RESOLUTION.pack(horizontal, vertical)
    colour = info.get("transparency")
    if colour is not None and image.mode in ("L", "RGB"):
        values = (colour,) if isinstance(colour, int) else tuple(colour)
        found["transparency"] = struct.pack(f"<{len(values)}H", *values)
    return found


def _save_settings(picture: Picture, file_format: str) -> dict[str, Any]:
    metadata = picture.metadata
    settings: dict[str, Any] = {}
    if file_format == "WEBP":
        settings.update(lossless=True, exact=True, quality=100, method=4)
    if file_format == "TIFF":
        settings["compression"] = "tiff_lzw"
    if "icc" in metadata:
        settings["icc_profile"] = metadata["icc"]
    if "exif" in metadata and file_format != "BMP":
        settings["exif"] = metadata["exif"]
    if "xmp" in metadata and file_format == "WEBP":
        settings["xmp"] = metadata["xmp"]
    if "resolution" in metadata and file_format != "WEBP":
        if len(metadata["resolution"]) != _RESOLUTION.size:
            raise CorruptFile(f"a resolution of {len(metadata['resolution'])} bytes, expected {_RESOLUTION.size}")
        settings["dpi"] = tuple(value / _INCHES_PER_METRE for value in _RESOLUTION.unpack(metadata["resolution"]))
    if file_format == "PNG":
        settings.update(_png_settings(metadata))
    return settings


def _png_settings(metadata: Mapping[str, bytes]) -> dict[str, Any]:
    from PIL.PngImagePlugin import PngInfo

    settings: dict[str, Any] = {}
    if "xmp" in metadata:
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", metadata["xmp"].decode("utf-8", "surrogateescape"))
        settings["pnginfo"] = text
    if "transparency" in metadata:
        raw = metadata["transparency"]
        if len(raw) % 2 or not raw:
            raise CorruptFile(f"a transparent colour of {len(raw)} bytes, expected two for each channel")
        colour = struct.unpack(f"<{len(raw) // 2}H", raw)
        settings["transparency"] = colour[0] if len(colour) == 1 else colour
    return settings


@contextmanager
def _without_pixel_limit() -> Iterator[None]:
    """Our own limits are checked before decoding; Pillow's global one would refuse large images first."""
    from PIL import Image

    with _bomb_lock:
        saved = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved
