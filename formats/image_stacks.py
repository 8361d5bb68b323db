"""Stacks of equally large grey images: npy and idx files, and folders of image files."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CorruptFile, InvalidParameter, LimitExceeded, TruncatedFile, UnsupportedInput
from .pictures import check_size, decoded, opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .limits import Limits

__all__ = ["ImageStack", "idx_bytes", "is_stack_path", "read_stack", "stack_of_array"]

_IDX_HEADER = struct.Struct(">BBBBIII")
_IDX_UINT8 = 8
_IMAGE_SUFFIXES = {".png", ".webp", ".bmp", ".pgm", ".tif", ".tiff", ".gif"}


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageStack:
    """``images`` is uint8 ``[count, height, width]``; ``names`` are the files' names, or empty."""

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    size_bytes: int


def is_stack_path(path: Path) -> bool:
    """Whether ``path`` is a folder, an ``.npy`` file or an idx file by its name."""
    name = path.name.lower().removesuffix(".gz")
    return path.is_dir() or name.endswith((".npy", ".idx", "-ubyte", ".idx3"))


def read_stack(path: Path, limits: Limits) -> ImageStack:
    """Read a folder or an idx file (also gzipped)."""
    return _read_folder(path, limits) if path.is_dir() else _read_idx(path, limits)


def stack_of_array(array: NDArray[Any], name: str) -> ImageStack:
    """A stack from an array ``[count, height, width]`` or ``[height, width]``."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.size == 0:
        raise UnsupportedInput(
            f"{name}: a stack is uint8 [images, height, width], got {array.dtype} {list(array.shape)}"
        )
    images = array if array.ndim == 3 else array[None]
    return ImageStack(images=images, names=(), size_bytes=int(array.nbytes))


def idx_bytes(images: NDArray[np.uint8]) -> bytes:
    """``images`` as an uncompressed idx file."""
    count, height, width = images.shape
    return _IDX_HEADER.pack(0, 0, _IDX_UINT8, 3, count, height, width) + images.tobytes()


def _read_idx(path: Path, limits: Limits) -> ImageStack:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    size = len(data)
    if data.startswith(b"\x1f\x8b"):
        data = _gunzipped(data, path, limits)
    if len(data) < _IDX_HEADER.size:
        raise TruncatedFile(f"{path} ends inside its idx header, after {len(data)} bytes")
    first, second, kind, axes, count, height, width = _IDX_HEADER.unpack_from(data)
    if (first, second, kind, axes) != (0, 0, _IDX_UINT8, 3):
        raise CorruptFile(f"{path} is not an idx file of 8-bit images [count, height, width]")
    check_size(max(1, width), max(1, height), limits, str(path))
    expected = _IDX_HEADER.size + count * height * width
    if len(data) != expected or count * height * width == 0:
        raise CorruptFile(f"{path}: {len(data):,} bytes, its idx header promises {expected:,}")
    images = np.frombuffer(data, np.uint8, offset=_IDX_HEADER.size).reshape(count, height, width)
    return ImageStack(images=images, names=(), size_bytes=size)


def _gunzipped(data: bytes, path: Path, limits: Limits) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            plain = stream.read(limits.max_memory_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptFile(f"{path} is a damaged gzip file: {error}") from error
    if len(plain) > limits.max_memory_bytes:
        raise LimitExceeded(f"{path} unpacks to more than max_memory_bytes={limits.max_memory_bytes:,}")
    return plain


def _read_folder(path: Path, limits: Limits) -> ImageStack:
    files = sorted(item for item in path.iterdir() if item.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise InvalidParameter(f"{path} holds no image files")
    images: list[NDArray[np.uint8]] = []
    size = 0
    for file in files:
        data = file.read_bytes()
        size += len(data)
        image = opened(data, str(file))
        check_size(image.width, image.height, limits, str(file))
        picture = decoded(image, str(file))
        if picture is None or picture.pixels.shape[2] != 1:
            raise UnsupportedInput(f"{file} is not an 8-bit grey image; encode it with the codec pc")
        if images and picture.pixels.shape[:2] != images[0].shape:
            raise UnsupportedInput(f"{file} is not as large as {files[0].name}; a stack needs one size")
        images.append(picture.pixels[:, :, 0])
    names = tuple(file.name for file in files)
    return ImageStack(images=np.stack(images), names=names, size_bytes=size)
