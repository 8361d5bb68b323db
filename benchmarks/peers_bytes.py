"""General compressors: zstd, xz, brotli and PPMd, each in its own file format."""

from __future__ import annotations

import lzma
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..formats.errors import CorruptFile
from .peers import NamedPeer, check_range, load_optional

__all__ = ["BrotliPeer", "PpmdPeer", "XzPeer", "ZstdPeer"]


class _BytesPeer(NamedPeer, ABC):
    """A compressor that is a function from bytes to the bytes of a whole file; ``_library`` is module and package."""

    kind = "bytes"
    _library: tuple[str, str]

    def version(self) -> str:
        module, package = self._library
        load_optional(module, package)
        return f"{package} {version(package)}"

    def encode(self, content: bytes, source: Path, target: Path, params: Any) -> None:
        target.write_bytes(self._compress(content, params))

    def decode(self, path: Path, params: Any, form: Mapping[str, int]) -> bytes:
        return self._decompress(path.read_bytes())

    def _module(self) -> Any:
        return load_optional(*self._library)

    @abstractmethod
    def _compress(self, content: bytes, params: Any) -> bytes:
        """The bytes of the file."""

    @abstractmethod
    def _decompress(self, data: bytes) -> bytes:
        """What the file holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZstdParams:
    """``level`` 1 to 22."""

    level: int = 19

    def __post_init__(self) -> None:
        check_range("level", self.level, 1, 22)


class ZstdPeer(_BytesPeer):
    """Zstandard, one frame with its content size and checksum."""

    name = "zstd"
    suffix = ".zst"
    Params = ZstdParams

    _library = ("zstandard", "zstandard")

    def version(self) -> str:
        return f"zstd {'.'.join(str(part) for part in self._module().ZSTD_VERSION)}"

    def _compress(self, content: bytes, params: ZstdParams) -> bytes:
        return bytes(self._module().ZstdCompressor(level=params.level, write_checksum=True).compress(content))

    def _decompress(self, data: bytes) -> bytes:
        return bytes(self._module().ZstdDecompressor().decompress(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class XzParams:
    """``level`` 0 to 9; ``extreme`` spends more time."""

    level: int = 9
    extreme: bool = True

    def __post_init__(self) -> None:
        check_range("level", self.level, 0, 9)


class XzPeer(_BytesPeer):
    """LZMA2 in an .xz file."""

    name = "xz"
    suffix = ".xz"
    Params = XzParams

    def version(self) -> str:
        return "xz of the Python standard library"

    def _compress(self, content: bytes, params: XzParams) -> bytes:
        return lzma.compress(content, preset=params.level | (lzma.PRESET_EXTREME if params.extreme else 0))

    def _decompress(self, data: bytes) -> bytes:
        return lzma.decompress(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrotliParams:
    """``quality`` 0 to 11, window of 2 to the power ``window_bits`` (10 to 24)."""

    quality: int = 11
    window_bits: int = 24

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 0, 11)
        check_range("window_bits", self.window_bits, 10, 24)


class BrotliPeer(_BytesPeer):
    """Brotli."""

    name = "brotli"
    suffix = ".br"
    Params = BrotliParams

    _library = ("brotli", "brotli")

    def _compress(self, content: bytes, params: BrotliParams) -> bytes:
        return bytes(self._module().compress(content, quality=params.quality, lgwin=params.window_bits))

    def _decompress(self, data: bytes) -> bytes:
        return bytes(self._module().decompress(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class PpmdParams:
    """PPMd variant I: model ``order`` 2 to 64, ``memory_mib`` 1 to 1024."""

    order: int = 8
    memory_mib: int = 64

    def __post_init__(self) -> None:
        check_range("order", self.order, 2, 64)
        check_range("memory_mib", self.memory_mib, 1, 1024)


class PpmdPeer(_BytesPeer):
    """PPMd variant I, which has no file format of its own: three bytes of order and memory come before the stream."""

    name = "ppmd"
    suffix = ".ppmd"
    Params = PpmdParams

    _library = ("pyppmd", "pyppmd")

    def _compress(self, content: bytes, params: PpmdParams) -> bytes:
        memory = params.memory_mib
        body = self._module().compress(content, max_order=params.order, mem_size=memory << 20, variant="I")
        return bytes([params.order]) + memory.to_bytes(2, "little") + bytes(body)

    def _decompress(self, data: bytes) -> bytes:
        if len(data) < 3:
            raise CorruptFile("the file is too short for its order and memory")
        memory = int.from_bytes(data[1:3], "little") << 20
        return bytes(self._module().decompress(data[3:], max_order=data[0], mem_size=memory, variant="I"))
