"""General compressors: zstd, xz, brotli and PPMd, each in its own file format."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..formats.errors import CorruptFile
from .peers import NamedPeer, load_optional
from .peers_image import check_range

__all__ = ["BrotliPeer", "PpmdPeer", "XzPeer", "ZstdPeer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZstdParams:
    """``level`` 1 to 22."""

    level: int = 19

    def __post_init__(self) -> None:
        check_range("level", self.level, 1, 22)


class ZstdPeer(NamedPeer):
    """Zstandard, one frame with its content size and checksum."""

    name = "zstd"
    kind = "bytes"
    suffix = ".zst"
    Params = ZstdParams

    def version(self) -> str:
        zstandard = load_optional("zstandard", "zstandard")
        return f"zstd {'.'.join(str(part) for part in zstandard.ZSTD_VERSION)}"

    def encode(self, content: bytes, source: Path, target: Path, params: ZstdParams) -> None:
        zstandard = load_optional("zstandard", "zstandard")
        target.write_bytes(zstandard.ZstdCompressor(level=params.level, write_checksum=True).compress(content))

    def decode(self, path: Path, params: ZstdParams, form: Mapping[str, int]) -> bytes:
        zstandard = load_optional("zstandard", "zstandard")
        return bytes(zstandard.ZstdDecompressor().decompress(path.read_bytes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class XzParams:
    """``level`` 0 to 9; ``extreme`` spends more time."""

    level: int = 9
    extreme: bool = True

    def __post_init__(self) -> None:
        check_range("level", self.level, 0, 9)


class XzPeer(NamedPeer):
    """LZMA2 in an .xz file."""

    name = "xz"
    kind = "bytes"
    suffix = ".xz"
    Params = XzParams

    def version(self) -> str:
        return "xz of the Python standard library"

    def encode(self, content: bytes, source: Path, target: Path, params: XzParams) -> None:
        preset = params.level | (lzma.PRESET_EXTREME if params.extreme else 0)
        target.write_bytes(lzma.compress(content, preset=preset))

    def decode(self, path: Path, params: XzParams, form: Mapping[str, int]) -> bytes:
        return lzma.decompress(path.read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class BrotliParams:
    """``quality`` 0 to 11, window of 2 to the power ``window_bits`` (10 to 24)."""

    quality: int = 11
    window_bits: int = 24

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 0, 11)
        check_range("window_bits", self.window_bits, 10, 24)


class BrotliPeer(NamedPeer):
    """Brotli."""

    name = "brotli"
    kind = "bytes"
    suffix = ".br"
    Params = BrotliParams

    def version(self) -> str:
        load_optional("brotli", "brotli")
        return f"brotli {version('brotli')}"

    def encode(self, content: bytes, source: Path, target: Path, params: BrotliParams) -> None:
        brotli = load_optional("brotli", "brotli")
        target.write_bytes(brotli.compress(content, quality=params.quality, lgwin=params.window_bits))

    def decode(self, path: Path, params: BrotliParams, form: Mapping[str, int]) -> bytes:
        return bytes(load_optional("brotli", "brotli").decompress(path.read_bytes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class PpmdParams:
    """PPMd variant I: model ``order`` 2 to 64, ``memory_mib`` 1 to 1024."""

    order: int = 8
    memory_mib: int = 64

    def __post_init__(self) -> None:
        check_range("order", self.order, 2, 64)
        check_range("memory_mib", self.memory_mib, 1, 1024)


class PpmdPeer(NamedPeer):
    """PPMd variant I, which has no file format of its own: three bytes of order and memory come before the stream."""

    name = "ppmd"
    kind = "bytes"
    suffix = ".ppmd"
    Params = PpmdParams

    def version(self) -> str:
        load_optional("pyppmd", "pyppmd")
        return f"pyppmd {version('pyppmd')}"

    def encode(self, content: bytes, source: Path, target: Path, params: PpmdParams) -> None:
        pyppmd = load_optional("pyppmd", "pyppmd")
        body: Any = pyppmd.compress(content, max_order=params.order, mem_size=params.memory_mib << 20, variant="I")
        target.write_bytes(bytes([params.order]) + params.memory_mib.to_bytes(2, "little") + bytes(body))

    def decode(self, path: Path, params: PpmdParams, form: Mapping[str, int]) -> bytes:
        pyppmd = load_optional("pyppmd", "pyppmd")
        data = path.read_bytes()
        if len(data) < 3:
            raise CorruptFile(f"{path} is too short for its order and memory")
        memory = int.from_bytes(data[1:3], "little") << 20
        return bytes(pyppmd.decompress(data[3:], max_order=data[0], mem_size=memory, variant="I"))
