"""Images in and out: the ``image`` kind, one picture or a stack of small grey ones.

A picture is 8-bit grey or RGB, with or without alpha, and the metadata that has to survive: ICC profile, EXIF, XMP,
resolution and a transparent colour. Whatever does not fit that description (16 bits, palettes, CMYK, animations) is
reported as such by :meth:`ImageSource.picture`, so that a codec can carry the file itself.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from .errors import CorruptFile, InvalidParameter, UnsupportedInput
from .image_sinks import (
    ComparingImageSink,
    FileImageSink,
    ImageSink,
    MemoryImageSink,
    StreamImageSink,
    sink_for_path,
)
from .image_stacks import ImageStack, is_stack_path, read_stack, stack_of_array
from .picture_modes import CHANNELS_OF_MODE
from .pictures import Picture, check_size, decoded, npy_bytes, opened

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

    from .limits import Limits

__all__ = [
    "ComparingImageSink",
    "FileImageSink",
    "ImageSink",
    "ImageSource",
    "MemoryImageSink",
    "StreamImageSink",
    "comparing_sink",
    "memory_sink",
    "open_sink",
    "open_source",
]


class ImageSource:
    """An input that is one picture, or a stack of equally large grey ones.

    ``size_bytes`` is the size of the input as it lies on disk, or of its array.
    """

    def __init__(
        self, *, name: str, limits: Limits, data: bytes | None = None, array: NDArray[Any] | None = None,
        stack: ImageStack | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._limits = limits
        self._data = data
        self._array = array
        self._stack = stack
        if data is not None:
            self.size_bytes = len(data)
        elif array is not None:
            self.size_bytes = int(array.nbytes)
        else:
            self.size_bytes = stack.size_bytes if stack is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def is_stack(self) -> bool:
        """Whether the input can only be read as a stack."""
        return self._stack is not None

    def picture(self) -> Picture | None:
        """The picture, or None where its pixels are not 8-bit L, LA, RGB or RGBA, or where there are several.

        Raises :class:`CorruptFile` for damaged files, :class:`LimitExceeded` before a large one is decoded.
        """
        if self._array is not None:
            return _picture_of_array(self._array, self._limits)
        with self._opened() as image:
            return decoded(image, self.name)

    def file(self) -> tuple[bytes, str] | None:
        """The input file's own bytes and the name of its format (``PNG``), where the input is one image file."""
        if self._data is None:
            return None
        with self._opened() as image:
            return self._data, str(image.format)

    def carried(self) -> tuple[bytes, str, tuple[int, int]]:
        """What a codec carries when it cannot code the pixels: bytes, suffix of their format, width and height."""
        if self._array is not None:
            height, width = self._array.shape[:2]
            return npy_bytes(self._array), ".npy", (width, height)
        with self._opened() as image:
            suffix = Path(self.name).suffix.lower() or f".{str(image.format).lower()}"
            return self._data or b"", suffix, (image.width, image.height)

    def array(self) -> NDArray[Any] | None:
        """The input array, where the input is one."""
        return self._array

    def warnings(self) -> list[str]:
        """What a person should know about the input, such as that it is animated."""
        if self._data is None:
            return []
        with self._opened() as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                return [f"{self.name} is animated ({frames} frames)"]
            if image.format == "JPEG":
                return [f"{self.name} is a JPEG: its pixels take more bytes without loss than the JPEG itself"]
            return []

    def stack(self) -> ImageStack:
        """The input as a stack of grey images; a single grey picture is a stack of one."""
        if self._stack is not None:
            return self._stack
        if self._array is not None:
            return stack_of_array(self._array, self.name)
        picture = self.picture()
        if picture is None or picture.pixels.shape[2] != 1:
            raise UnsupportedInput(f"{self.name} is not an 8-bit grey image; use the codec pc")
        return ImageStack(images=picture.pixels[None, :, :, 0], names=(), size_bytes=self.size_bytes)

    def _opened(self) -> PillowImage:
        if self._data is None:
            raise UnsupportedInput(f"{self.name} is a stack of images; use the codec pc-grey for it")
        image = opened(self._data, self.name)
        check_size(image.width, image.height, self._limits, self.name)
        return image


def open_source(value: Any, *, limits: Limits) -> ImageSource:
    """Open a path (image file, ``.npy``, idx file or folder), the bytes of an image file, or an array.

    Arrays are ``[height, width]``, ``[height, width, 1..4]``, or a stack ``[images, height, width]``.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ImageSource(name="bytes", limits=limits, data=bytes(value))
    if isinstance(value, (str, os.PathLike)):
        return _open_path(Path(value), limits)
    if hasattr(value, "read"):
        return ImageSource(name=str(getattr(value, "name", "stream")), limits=limits, data=_read(value, limits))
    if hasattr(value, "__array__"):
        return ImageSource(name="array", limits=limits, array=np.asarray(value))
    raise UnsupportedInput(f"expected a path, bytes, a file object or an array, got {type(value).__name__}")


def open_sink(target: Any, *, overwrite: bool, limits: Limits) -> ImageSink:
    """A sink for a path (its suffix names the format) or a writable binary stream, which gets PNG."""
    if isinstance(target, (str, os.PathLike)):
        return sink_for_path(Path(target), overwrite=overwrite)
    if hasattr(target, "write"):
        return StreamImageSink(target)
    raise InvalidParameter(f"cannot write an image to a {type(target).__name__}; give a path or a stream")


def memory_sink(*, limits: Limits) -> MemoryImageSink:
    """A sink whose ``value`` is the decoded array: ``[height, width(, channels)]`` or a stack."""
    return MemoryImageSink(limits)


def comparing_sink(value: Any, *, limits: Limits) -> ComparingImageSink:
    """A sink that compares pixels and metadata with those of ``value``, which must be readable again."""
    if hasattr(value, "read"):
        raise InvalidParameter("a stream cannot be read twice to verify against; give a path or bytes")
    return ComparingImageSink(open_source(value, limits=limits))


def _open_path(path: Path, limits: Limits) -> ImageSource:
    if is_stack_path(path):
        if path.suffix.lower() == ".npy":
            array = _load_array(path)
            return ImageSource(name=str(path), limits=limits, array=array)
        return ImageSource(name=str(path), limits=limits, stack=read_stack(path, limits))
    try:
        limits.check("max_memory_bytes", path.stat().st_size, str(path))
        with path.open("rb") as stream:
            data = _read(stream, limits)
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    return ImageSource(name=str(path), limits=limits, data=data)


def _load_array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise CorruptFile(f"{path} is not an .npy file of plain numbers: {error}") from error
    return array


def _picture_of_array(array: NDArray[Any], limits: Limits) -> Picture | None:
    if array.ndim not in (2, 3) or array.size == 0:
        raise UnsupportedInput(f"an image array is [height, width(, channels)], got {list(array.shape)}")
    check_size(array.shape[1], array.shape[0], limits, "the array")
    channels = 1 if array.ndim == 2 else array.shape[2]
    if array.dtype != np.uint8 or channels not in CHANNELS_OF_MODE.values():
        return None
    return Picture(pixels=array.reshape(*array.shape[:2], channels), flat=array.ndim == 2)


def _read(stream: BinaryIO, limits: Limits) -> bytes:
    buffer = io.BytesIO()
    while piece := stream.read(1 << 20):
        buffer.write(piece)
        limits.check("max_chunk_bytes", buffer.tell(), str(getattr(stream, "name", "the stream")))
    return buffer.getvalue()
