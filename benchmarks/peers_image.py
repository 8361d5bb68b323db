"""Image formats through Pillow: JPEG, WebP, AVIF, JPEG 2000, PNG and JPEG XL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..formats.errors import ExternalFailure
from .peers import NamedPeer, NoParams, check_range, load_optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AvifPeer", "Jpeg2000Peer", "JpegPeer", "JpegXlPeer", "PngPeer", "WebpPeer"]


class _PillowPeer(NamedPeer, ABC):
    kind = "image"
    _format: str
    _feature: str

    def version(self) -> str:
        from PIL import __version__, features

        if not features.check(self._feature):
            raise ExternalFailure(f"this build of Pillow has no {self._format}")
        return f"Pillow {__version__} {self._feature} {features.version(self._feature) or 'unknown'}"

    def encode(self, content: NDArray[np.uint8], source: Path, target: Path, params: Any) -> None:
        from PIL import Image

        # a file object, because Pillow removes a half-written path of its own but not its error number
        with target.open("wb") as stream:
            Image.fromarray(content).save(stream, format=self._format, **self._options(params))

    def decode(self, path: Path, params: Any, form: Mapping[str, int]) -> NDArray[np.uint8]:
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))

    @abstractmethod
    def _options(self, params: Any) -> dict[str, Any]:
        """What is handed to the encoder for ``params``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegParams:
    """libjpeg-turbo: ``quality`` 0 to 100, chroma ``subsampling``, Huffman tables its own or the standard's."""

    quality: int = 75
    huffman: Literal["optimised", "standard"] = "optimised"
    subsampling: Literal["4:2:0", "4:2:2", "4:4:4"] = "4:2:0"

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 0, 100)


class JpegPeer(_PillowPeer):
    """Baseline JPEG."""

    name = "jpeg"
    suffix = ".jpg"
    Params = JpegParams
    _format = "JPEG"
    _feature = "jpg"

    def _options(self, params: JpegParams) -> dict[str, Any]:
        return {"quality": params.quality, "subsampling": params.subsampling, "optimize": params.huffman == "optimised"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebpParams:
    """libwebp: ``quality`` 0 to 100, ``method`` 0 (fast) to 6."""

    quality: int = 75
    method: int = 4
    lossless: bool = False

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 0, 100)
        check_range("method", self.method, 0, 6)


class WebpPeer(_PillowPeer):
    """WebP."""

    name = "webp"
    suffix = ".webp"
    Params = WebpParams
    _format = "WEBP"
    _feature = "webp"

    def _options(self, params: WebpParams) -> dict[str, Any]:
        return {"quality": params.quality, "method": params.method, "lossless": params.lossless}


@dataclass(frozen=True, slots=True, kw_only=True)
class AvifParams:
    """libavif: ``quality`` 0 to 100, ``speed`` 0 (slow) to 10."""

    quality: int = 50
    speed: int = 6

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 0, 100)
        check_range("speed", self.speed, 0, 10)


class AvifPeer(_PillowPeer):
    """AVIF, on one thread."""

    name = "avif"
    suffix = ".avif"
    Params = AvifParams
    _format = "AVIF"
    _feature = "avif"

    def _options(self, params: AvifParams) -> dict[str, Any]:
        return {"quality": params.quality, "speed": params.speed, "max_threads": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Jpeg2000Params:
    """OpenJPEG: compression ``ratio`` against 24 bits a pixel, irreversible transform; ratio 1 is lossless."""

    ratio: float = 40.0

    def __post_init__(self) -> None:
        check_range("ratio", self.ratio, 1, 10_000)


class Jpeg2000Peer(_PillowPeer):
    """JPEG 2000 in a JP2 file."""

    name = "jpeg2000"
    suffix = ".jp2"
    Params = Jpeg2000Params
    _format = "JPEG2000"
    _feature = "jpg_2000"

    def _options(self, params: Jpeg2000Params) -> dict[str, Any]:
        if params.ratio == 1:
            return {"irreversible": False, "mct": 1}  # without the colour transform files are a third larger
        return {"quality_mode": "rates", "quality_layers": [params.ratio], "irreversible": True}


class PngPeer(_PillowPeer):
    """PNG at the highest compression."""

    name = "png"
    suffix = ".png"
    Params = NoParams
    _format = "PNG"
    _feature = "zlib"

    def _options(self, params: NoParams) -> dict[str, Any]:
        return {"optimize": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegXlParams:
    """libjxl: ``quality`` 0 to 100, ``effort`` 1 (fast) to 9."""

    quality: int = 75
    effort: int = 7
    lossless: bool = False

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 0, 100)
        check_range("effort", self.effort, 1, 9)


class JpegXlPeer(_PillowPeer):
    """JPEG XL, through the package ``pillow-jxl-plugin``."""

    name = "jpeg-xl"
    suffix = ".jxl"
    Params = JpegXlParams
    _format = "JXL"

    def version(self) -> str:
        from importlib.metadata import version

        load_optional("pillow_jxl", "pillow-jxl-plugin")
        return f"pillow-jxl-plugin {version('pillow-jxl-plugin')}"

    def encode(self, content: NDArray[np.uint8], source: Path, target: Path, params: Any) -> None:
        load_optional("pillow_jxl", "pillow-jxl-plugin")
        super().encode(content, source, target, params)

    def decode(self, path: Path, params: Any, form: Mapping[str, int]) -> NDArray[np.uint8]:
        load_optional("pillow_jxl", "pillow-jxl-plugin")
        return super().decode(path, params, form)

    def _options(self, params: JpegXlParams) -> dict[str, Any]:
        return {"quality": params.quality, "effort": params.effort, "lossless": params.lossless, "num_threads": 1}
