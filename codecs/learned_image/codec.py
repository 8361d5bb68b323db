"""The codec ``compressai``: CompressAI's networks with a factorised or a hyperprior, in a container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.header import Header
from ...formats.picture_modes import CHANNELS_OF_MODE
from ..protocol import Figure

if TYPE_CHECKING:
    from ...formats.canonical_json import JsonValue
    from ...formats.images import ImageSource
    from ...formats.reader import ContainerReader
    from ...formats.writer import ContainerWriter
    from ..protocol import Selection
    from ..run_context import RunContext
    from .picture_coding import LatentReader

__all__ = ["MODES", "CompressAICodec", "CompressAIParameters", "PictureHeader"]

MODES = {mode: CHANNELS_OF_MODE[mode] for mode in ("L", "RGB")}
_MAX_QUALITY = 100
_DEFAULT_QUALITY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressAIParameters:
    """Settings of an encode."""

    quality: int | None = field(
        default=None, metadata={"help": "0 (smallest) to 100; 50 where the weights have several rates, else none"}
    )
    weights: str = field(default="", metadata={"help": "weights of your own (.safetensors), needed again to decode"})
    metadata: bool = field(default=True, metadata={"help": "keep ICC profile, EXIF, XMP and resolution"})

    def __post_init__(self) -> None:
        if self.quality is not None and not 0 <= self.quality <= _MAX_QUALITY:
            raise InvalidParameter(f"quality={self.quality} is not within 0 to {_MAX_QUALITY}")

    def quality_of(self, levels: int) -> int | None:
        """The quality to code at with weights of ``levels`` rates; None where there is one."""
        if levels > 1:
            return _DEFAULT_QUALITY if self.quality is None else self.quality
        if self.quality is not None:
            raise InvalidParameter("these weights have one rate; leave quality out")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureHeader:
    """What a header holds; ``quality`` is None where the weights have one rate."""

    mode: str
    width: int
    height: int
    quality: int | None

    @classmethod
    def from_header(cls, header: Header) -> PictureHeader:
        mode, size, quality = (header.parameters.get(name) for name in ("mode", "size", "quality"))
        if header.parameters.keys() - {"mode", "size", "quality"}:
            raise CorruptFile(f"header: unknown parameters among {', '.join(sorted(header.parameters))}")
        if not isinstance(mode, str) or mode not in MODES:
            raise CorruptFile(f"header: pixel mode {mode!r} is not one of {', '.join(MODES)}")
        if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise CorruptFile(f"header: {size!r} is not a picture's width and height")
        if quality is not None and (type(quality) is not int or not 0 <= quality <= _MAX_QUALITY):
            raise CorruptFile(f"header: quality {quality!r} is not within 0 to {_MAX_QUALITY}")
        width, height = (side for side in size if isinstance(side, int))
        return cls(mode=mode, width=width, height=height, quality=quality if isinstance(quality, int) else None)

    def as_parameters(self) -> dict[str, JsonValue]:
        """The parameters of the container's header."""
        parameters: dict[str, JsonValue] = {"mode": self.mode, "size": [self.width, self.height]}
        return parameters if self.quality is None else {**parameters, "quality": self.quality}


class CompressAICodec:
    """Lossy pictures, 8-bit grey and RGB.

    A file holds ``TILE`` chunks, row by row, and ``META`` chunks. Decode setting: ``weights=FILE`` for files made with
    weights of one's own.
    """

    id: ClassVar[str] = "compressai"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "lossy photographs (CompressAI's autoencoders with factorised or hyperprior)"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = CompressAIParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"quality": 15},
        "balanced": {},
        "fine": {"quality": 85},
    }
    default_preset: ClassVar[str] = "balanced"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"TILE", "META"})
    axes: ClassVar[frozenset[str]] = frozenset()
    checks: ClassVar[frozenset[str]] = frozenset({"profile", "weights"})

    def encode(
        self, source: ImageSource, sink: ContainerWriter, params: CompressAIParameters, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Encode one picture; its latents are coded exactly, whatever computed them."""
        from .picture_coding import encode_picture  # imports torch

        return encode_picture(source, sink, params, context)

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Bits per pixel of the whole file."""
        picture = PictureHeader.from_header(header)
        return {"bpp": round(8 * output_bytes / (picture.width * picture.height), 4)}

    def decode(
        self,
        source: ContainerReader,
        sink: Any,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Decode the picture; symbols are exact, pixels may differ by one between machines."""
        from .picture_coding import LatentReader, decode_picture

        settings = {} if selection is None else dict(selection.settings)
        unknown = settings.keys() - {"weights"}
        if unknown:
            raise InvalidParameter(f"compressai decodes with weights=FILE, not {', '.join(sorted(unknown))}")
        return decode_picture(LatentReader(source, context, settings.get("weights", "")), sink)

    def open(self, source: ContainerReader, *, context: RunContext) -> LatentReader:
        """A view with ``symbols()``, ``latents()`` and ``pixels()`` of the whole picture."""
        from .picture_coding import LatentReader

        return LatentReader(source, context, "")

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Size, mode and quality of the picture, and whose weights it needs."""
        picture = PictureHeader.from_header(header)
        described: dict[str, JsonValue] = {
            "width": picture.width,
            "height": picture.height,
            "mode": picture.mode,
            "weights": f"of the user, SHA-256 {header.weights[0]}" if header.weights else "of the package",
        }
        return described if picture.quality is None else {**described, "quality": picture.quality}
