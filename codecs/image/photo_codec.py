"""The codec ``pc``: photographs of any size through a pyramid of small circuits whose parameters a network gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ...formats.errors import CodecError, CorruptFile, InvalidParameter
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
    from .photo_file import PhotoReader

__all__ = ["CARRIED", "PcCodec", "PhotoHeader", "PhotoParameters", "tiles_of"]

CARRIED = "file"
"""Mode of files that carry their input as it was, because its pixels are not 8-bit L, LA, RGB or RGBA."""

_MIN_TILE, _MAX_TILE = 64, 2048
_MAX_LANES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoParameters:
    """Settings of an encode."""

    tile: int = field(default=1024, metadata={"help": "side of a tile in pixels, a power of two from 64 to 2048"})
    lanes: int = field(
        default=2, metadata={"help": "most bands coded in parallel within a tile, 1 to 16; small tiles have fewer"}
    )
    regression: bool = field(default=True, metadata={"help": "correct means by least squares learned while coding"})

    def __post_init__(self) -> None:
        if not _MIN_TILE <= self.tile <= _MAX_TILE or self.tile & (self.tile - 1):
            raise InvalidParameter(f"tile={self.tile} is not a power of two from {_MIN_TILE} to {_MAX_TILE}")
        if not 1 <= self.lanes <= _MAX_LANES:
            raise InvalidParameter(f"lanes={self.lanes} is not within 1 to {_MAX_LANES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoHeader:
    """What a ``pc`` header holds. ``tile`` is at least both sides where the picture is one tile."""

    mode: str
    width: int
    height: int
    tile: int

    @classmethod
    def from_header(cls, header: Header) -> PhotoHeader:
        mode, size, tile = (header.parameters.get(name) for name in ("mode", "size", "tile"))
        if not isinstance(size, list) or len(size) != 2 or not isinstance(mode, str):
            raise CorruptFile("header: a pc file names the mode and the size of its picture")
        width, height = (value if type(value) is int else 0 for value in size)
        if mode not in CHANNELS_OF_MODE and mode != CARRIED:
            raise CorruptFile(f"header: unknown pixel mode {mode!r}")
        if min(width, height) < 1:
            raise CorruptFile(f"header: a picture of {width}x{height} pixels")
        if tile is None:
            return cls(mode=mode, width=width, height=height, tile=max(width, height))
        if type(tile) is not int or not _MIN_TILE <= tile <= _MAX_TILE or tile & (tile - 1):
            raise CorruptFile(f"header: tile side {tile!r} is not a power of two from {_MIN_TILE} to {_MAX_TILE}")
        return cls(mode=mode, width=width, height=height, tile=tile)

    @property
    def channels(self) -> int:
        return CHANNELS_OF_MODE[self.mode]

    def tiles(self) -> list[tuple[int, int, int, int]]:
        """Left, top, right and bottom of every tile, row by row: the order of the chunks."""
        return tiles_of(self.width, self.height, self.tile)


def tiles_of(width: int, height: int, tile: int) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of every tile of a picture, row by row."""
    return [
        (left, top, min(left + tile, width), min(top + tile, height))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]


class PcCodec:
    """Lossless; 8-bit L, LA, RGB and RGBA are coded, everything else is carried as it is.

    A file holds ``TILE`` chunks and ``META`` (ICC, EXIF, XMP, resolution), or one ``FILE`` chunk. Decode setting:
    ``level=N``, which stops N levels above the finest: the picture 2**N times smaller.
    """

    id: ClassVar[str] = "pc"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "lossless photographs (pyramid of probabilistic circuits)"
    lossless: ClassVar[bool] = True
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = PhotoParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"lanes": 4, "regression": False},
        "balanced": {},
        "max": {"lanes": 1, "tile": 2048},
    }
    default_preset: ClassVar[str] = "balanced"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"TILE", "META", "FILE"})
    axes: ClassVar[frozenset[str]] = frozenset()
    checks: ClassVar[frozenset[str]] = frozenset({"profile"})

    def encode(
        self, source: ImageSource, sink: ContainerWriter, params: PhotoParameters, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Encode one picture; each tile by the pyramid or, where that is smaller, as lossless WebP."""
        from .photo_file import encode_photo  # imports torch and numba

        return encode_photo(source, sink, params, context)

    def encode_together(
        self,
        sources: Sequence[ImageSource],
        sinks: Sequence[ContainerWriter],
        params: PhotoParameters,
        *,
        context: RunContext,
    ) -> list[Mapping[str, Figure] | CodecError]:
        """Encode several pictures, those of one size in common passes of the network; see :class:`Codec`."""
        from .photo_batch import encode_photos

        return encode_photos(sources, sinks, params, context)

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Bits per pixel and per sub-pixel of the whole file."""
        photo = PhotoHeader.from_header(header)
        bpp = 8 * output_bytes / (photo.width * photo.height)
        if photo.mode == CARRIED:
            return {"bpp": round(bpp, 4)}
        return {"bpp": round(bpp, 4), "bits_per_subpixel": round(bpp / photo.channels, 4)}

    def decode(
        self,
        source: ContainerReader,
        sink: Any,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Decode the picture, and check every tile's hash unless a coarser ``level`` was asked for."""
        from .photo_file import decode_photo

        settings = {} if selection is None else dict(selection.settings)
        unknown = settings.keys() - {"level"}
        if unknown:
            raise InvalidParameter(f"pc decodes with level=N, not {', '.join(sorted(unknown))}")
        level = settings.get("level", "0")
        if not level.isdecimal() or int(level) > 30:
            raise InvalidParameter(f"level={level} is not a number of halvings from 0 to 30")
        return decode_photo(source, sink, int(level), context)

    def open(self, source: ContainerReader, *, context: RunContext) -> PhotoReader:
        """A view whose ``pixels`` can be sliced by rows and columns; only the tiles needed are decoded."""
        from .photo_file import PhotoReader

        return PhotoReader(source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Size, mode and tiles of the picture."""
        photo = PhotoHeader.from_header(header)
        return {
            "width": photo.width,
            "height": photo.height,
            "mode": "carried as it was" if photo.mode == CARRIED else photo.mode,
            "tiles": 0 if photo.mode == CARRIED else len(photo.tiles()),
        }
