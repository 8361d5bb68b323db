"""Where decoded images go: a file, a folder, a stream, memory, or a comparison with the input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from .atomic_file import AtomicFile, AtomicFolder, output_errors
from .errors import CorruptFile, InvalidParameter
from .image_stacks import idx_bytes
from .mapped_arrays import mapped_npy
from .pictures import Picture, array_of_file, decoded, encoded, npy_bytes, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .images import ImageSource
    from .limits import Limits

__all__ = [
    "ComparingImageSink",
    "FileImageSink",
    "FolderImageSink",
    "ImageSink",
    "MemoryImageSink",
    "StreamImageSink",
    "sink_for_path",
]


class ImageSink(ABC):
    """Takes one picture, one carried file or one stack; nothing appears before :meth:`commit`."""

    size_bytes = 0

    def new_pixels(self, height: int, width: int, channels: int) -> NDArray[np.uint8]:
        """Zeros ``[height, width, channels]`` to decode a picture into before it is written."""
        return np.zeros((height, width, channels), np.uint8)

    @abstractmethod
    def write_picture(self, picture: Picture) -> None:
        """Write a picture with its metadata."""

    @abstractmethod
    def write_file(self, data: bytes, suffix: str) -> None:
        """Write a file that was carried as it was; ``suffix`` is that of its format (``.png``)."""

    @abstractmethod
    def write_stack(self, images: NDArray[np.uint8], names: Sequence[str]) -> None:
        """Write grey images ``[count, height, width]``; ``names`` may be empty."""

    @abstractmethod
    def commit(self) -> None:
        """Make the output final."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        return None


class FileImageSink(ImageSink):
    """A file that appears atomically, in the format its suffix names."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._suffix = path.suffix.lower()
        self._file = AtomicFile(path, overwrite=overwrite)
        self._mapped: NDArray[np.uint8] | None = None

    def new_pixels(self, height: int, width: int, channels: int) -> NDArray[np.uint8]:
        """Zeros to decode into; those of an ``.npy`` file are in the file already, so that memory stays free."""
        if self._suffix != ".npy" or not self._file.is_regular:
            return super().new_pixels(height, width, channels)
        shape = (height, width) if channels == 1 else (height, width, channels)
        with output_errors(self._file.path):
            self._mapped = mapped_npy(self._file.stream, shape).reshape(height, width, channels)
        return self._mapped

    def write_picture(self, picture: Picture) -> None:
        if picture.pixels is self._mapped:
            self.size_bytes += self._mapped.nbytes
            return
        self._write(encoded(picture, self._suffix))

    def write_file(self, data: bytes, suffix: str) -> None:
        self._write(data if suffix == self._suffix else _converted(data, suffix, self._suffix))

    def write_stack(self, images: NDArray[np.uint8], names: Sequence[str]) -> None:
        self._write(_stack_bytes(images, self._suffix))

    def commit(self) -> None:
        self._file.commit()

    def __exit__(self, *details: object) -> None:
        self._file.__exit__(*details)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.size_bytes += len(data)


class FolderImageSink(ImageSink):
    """A folder of PNG files that appears atomically: the output of a stack without a file suffix."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._folder = AtomicFolder(path, overwrite=overwrite)

    def write_picture(self, picture: Picture) -> None:
        self._write("image.png", encoded(picture, ".png"))

    def write_file(self, data: bytes, suffix: str) -> None:
        self._write(f"image{suffix}", data)

    def write_stack(self, images: NDArray[np.uint8], names: Sequence[str]) -> None:
        digits = len(str(len(images) - 1))
        for number, image in enumerate(images):
            # only the stem of a stored name is used: it must not lead out of the folder
            stem = Path(names[number]).stem if names else f"{number:0{digits}d}"
            self._write(f"{stem}.png", encoded(Picture(pixels=image[:, :, None]), ".png"))

    def commit(self) -> None:
        self._folder.commit()

    def __exit__(self, *details: object) -> None:
        self._folder.__exit__(*details)

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder.temporary / name
        if path.exists():
            raise CorruptFile(f"the stack names {name} twice")
        with output_errors(path):
            path.write_bytes(data)
        self.size_bytes += len(data)


class StreamImageSink(ImageSink):
    """An open binary stream: pictures leave as PNG, stacks as idx."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write_picture(self, picture: Picture) -> None:
        self._write(encoded(picture, ".png"))

    def write_file(self, data: bytes, suffix: str) -> None:
        self._write(data)

    def write_stack(self, images: NDArray[np.uint8], names: Sequence[str]) -> None:
        self._write(idx_bytes(images))

    def commit(self) -> None:
        with output_errors("output stream"):
            self._stream.flush()

    def _write(self, data: bytes) -> None:
        with output_errors("output stream"):
            self._stream.write(data)
        self.size_bytes += len(data)


class MemoryImageSink(ImageSink):
    """Keeps the array as ``value``; ``metadata`` holds what came with a picture."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.value: NDArray[Any] | None = None
        self.metadata: dict[str, bytes] = {}

    def write_picture(self, picture: Picture) -> None:
        self.metadata = dict(picture.metadata)
        self._keep(picture.to_array())

    def write_file(self, data: bytes, suffix: str) -> None:
        self._keep(array_of_file(data, f"the carried {suffix} file"))

    def write_stack(self, images: NDArray[np.uint8], names: Sequence[str]) -> None:
        self._keep(images)

    def commit(self) -> None:
        if self.value is None:
            raise CorruptFile("the file holds no image")

    def _keep(self, array: NDArray[Any]) -> None:
        self._limits.check("max_memory_bytes", int(array.nbytes), "the decoded image")
        self.value = array
        self.size_bytes = int(array.nbytes)


class ComparingImageSink(ImageSink):
    """Checks decoded images against the input they were encoded from; :meth:`commit` means they are equal."""

    def __init__(self, original: ImageSource) -> None:
        self._original = original
        self._compared = False

    def write_picture(self, picture: Picture) -> None:
        expected = self._original.picture()
        if expected is None or not np.array_equal(expected.pixels, picture.pixels):
            raise CorruptFile("verification failed: decoded pixels differ from the input's")
        if dict(expected.metadata) != dict(picture.metadata):
            raise CorruptFile("verification failed: decoded metadata differs from the input's")
        self._done(picture.pixels.nbytes)

    def write_file(self, data: bytes, suffix: str) -> None:
        original, array = self._original.file(), self._original.array()
        same = (original is not None and original[0] == data) or (
            array is not None and np.array_equal(array_of_file(data, "the carried array"), array)
        )
        if not same:
            raise CorruptFile("verification failed: the carried file differs from the input")
        self._done(len(data))

    def write_stack(self, images: NDArray[np.uint8], names: Sequence[str]) -> None:
        if not np.array_equal(self._original.stack().images, images):
            raise CorruptFile("verification failed: decoded images differ from the input's")
        self._done(images.nbytes)

    def commit(self) -> None:
        if not self._compared:
            raise CorruptFile("verification failed: nothing was decoded")

    def _done(self, size_bytes: int) -> None:
        self._compared = True
        self.size_bytes = int(size_bytes)


def sink_for_path(path: Path, *, overwrite: bool) -> ImageSink:
    """A folder where ``path`` has no suffix, else a file."""
    if path.suffix:
        return FileImageSink(path, overwrite=overwrite)
    return FolderImageSink(path, overwrite=overwrite)


def _converted(data: bytes, source_suffix: str, suffix: str) -> bytes:
    """A carried file in another format, where that loses nothing."""
    array = array_of_file(data, f"the carried {source_suffix} file")
    if suffix == ".npy":
        return npy_bytes(array)
    if array.dtype == np.uint8 and array.ndim in (2, 3) and (array.ndim == 2 or array.shape[2] in (2, 3, 4)):
        picture = None if data.startswith(b"\x93NUMPY") else decoded(opened(data, "file"), "file")
        if picture is not None:
            return encoded(picture, suffix)
    raise InvalidParameter(
        f"this file carries a {source_suffix} image that {suffix} cannot hold; decode to {source_suffix} or .npy"
    )


def _stack_bytes(images: NDArray[np.uint8], suffix: str) -> bytes:
    if suffix == ".npy":
        return npy_bytes(images)
    if suffix in (".idx", ""):
        return idx_bytes(images)
    if len(images) == 1:
        return encoded(Picture(pixels=images[0][:, :, None]), suffix)
    raise InvalidParameter(f"{len(images)} images do not fit one {suffix} file; decode to .npy, .idx or a folder")
