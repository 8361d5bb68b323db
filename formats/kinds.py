"""The kinds of data codecs take, how each is opened, and how a file's kind is recognised.

Each kind is a module of this folder with ``open_source``, ``open_sink`` and ``memory_sink``; it is imported when used.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compact_form import COMPACT_MAGIC
from .errors import InvalidParameter, UnsupportedInput
from .header import MAGIC
from .spooling import is_stream_path

if TYPE_CHECKING:
    from .limits import Limits

__all__ = ["KINDS", "comparing_sink", "memory_sink", "open_sink", "open_source", "probe_kind"]

KINDS = {"bytes": "byte_streams", "video": "media", "image": "images", "tensors": "tensors", "vectors": "vectors"}

_BY_SUFFIX = {
    "video": ".mp4 .mkv .mov .webm .avi .m4v .mpg .mpeg .ts .y4m .wmv .flv .ogv .3gp .m2ts",
    "image": ".png .webp .tif .tiff .bmp .gif .jpg .jpeg .pgm .ppm .jp2",
    "tensors": ".safetensors .npy",
    "vectors": ".parquet .arrow .feather",
    "bytes": ".txt .md .html .xml .json .jsonl .csv .tsv .tex .py .c .h .cpp .rs .go .js .log",
}
_NPY_MAGIC = b"\x93NUMPY"
_KIND_OF_SUFFIX = {suffix: kind for kind, row in _BY_SUFFIX.items() for suffix in row.split()}


def open_source(kind: str, value: Any, *, limits: Limits) -> Any:
    """Open ``value`` as input of ``kind``; a context manager."""
    return _module(kind).open_source(value, limits=limits)


def open_sink(kind: str, target: Any, *, overwrite: bool, limits: Limits) -> Any:
    """Open ``target`` as output of ``kind``; a context manager with ``commit()``."""
    return _module(kind).open_sink(target, overwrite=overwrite, limits=limits)


def memory_sink(kind: str, *, limits: Limits) -> Any:
    """A sink of ``kind`` that collects its output in memory as ``value``."""
    return _module(kind).memory_sink(limits=limits)


def comparing_sink(kind: str, value: Any, *, limits: Limits) -> Any:
    """A sink that compares what is written to it with the input ``value`` and raises where they differ."""
    return _module(kind).comparing_sink(value, limits=limits)


def probe_kind(value: Any) -> str:
    """The kind of an input: of a path by suffix and first bytes, of an object by its type and shape.

    Raises :class:`UnsupportedInput` for codeckit files, and :class:`InvalidParameter` for missing paths.
    """
    if isinstance(value, (str, os.PathLike)):
        return _kind_of_path(Path(value))
    if isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "read"):
        return "bytes"
    if isinstance(value, dict):
        return "tensors"
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape) == 4 and shape[-1] == 3:
        return "video"
    if shape is not None and len(shape) == 2 and "float" in str(getattr(value, "dtype", "")):
        return "vectors"
    if shape is not None and len(shape) in (2, 3):
        return "image"
    if shape is not None:
        return "tensors"
    raise UnsupportedInput(f"cannot tell what kind of data a {type(value).__name__} is; name the codec")


def _kind_of_path(path: Path) -> str:
    if not path.exists():
        raise InvalidParameter(f"{path} does not exist")
    if path.is_dir():
        return "video"  # a folder of numbered frames
    # what is read from a pipe here would be missing from the input
    start = b"" if is_stream_path(path) else _start_of(path)
    if start.startswith((MAGIC, COMPACT_MAGIC)):
        raise UnsupportedInput(f"{path} is a codeckit file already; decode it first")
    suffix = path.suffix.lower()
    if start.startswith(_NPY_MAGIC) and _is_float_matrix(path):
        return "vectors"
    if suffix in _KIND_OF_SUFFIX:
        return _KIND_OF_SUFFIX[suffix]
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return "image"
    if start[4:8] == b"ftyp" or start.startswith(b"\x1a\x45\xdf\xa3"):
        return "video"
    return "bytes"


def _is_float_matrix(path: Path) -> bool:
    """Whether the npy file ``path`` is [N, D] of floating point."""
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False  # opening it as an input says what is wrong
    return bool(array.ndim == 2 and array.dtype.kind == "f")


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error


def _module(kind: str) -> Any:
    try:
        name = KINDS[kind]
    except KeyError:
        raise InvalidParameter(f"no kind of data is called {kind!r}; there are {', '.join(KINDS)}") from None
    return importlib.import_module(f".{name}", __package__)
