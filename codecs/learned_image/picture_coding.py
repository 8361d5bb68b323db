"""Reading and writing the chunks of a ``compressai`` file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...entropy.bit_io import append_varint, read_varint
from ...formats.errors import CorruptFile, InvalidParameter, NumericProfileMismatch, UnsupportedInput
from ...formats.header import Header
from ...formats.pictures import METADATA_KEYS, Picture
from ..protocol import Figure
from .codec import MODES, CompressAICodec, CompressAIParameters, PictureHeader
from .exact_synthesis import PROFILE
from .latent_coding import LatentCoder, Latents
from .model_file import Model, load_model, packaged_model_path
from .quality import psnr_db
from .windows import Grid

if TYPE_CHECKING:
    from ...formats.images import ImageSource
    from ...formats.limits import Limits
    from ...formats.reader import ContainerReader
    from ...formats.writer import ContainerWriter
    from ..run_context import RunContext

__all__ = ["LatentReader", "decode_picture", "encode_picture"]

_WEIGHT_DIGITS = 12
_KEPT_METADATA = frozenset({"icc", "exif", "xmp", "resolution"})


class LatentReader:
    """What a file holds: ``symbols()``, ``latents()`` and ``pixels()``, each of the whole picture."""

    def __init__(self, source: ContainerReader, context: RunContext, weights: str) -> None:
        self.header = PictureHeader.from_header(source.header)
        self._source = source
        self._context = context
        self._model = _needed_model(source.header, weights)
        if (self.header.quality is None) != (self._model.levels == 1):
            raise CorruptFile("header: weights of several rates need a quality, and only they")
        limits, width, height = context.limits, self.header.width, self.header.height
        limits.check("max_dimension", max(width, height), "the picture")
        limits.check("max_pixels", width * height, "the picture")
        self._grid = _grid(self._model, height, width)
        held_bytes = 4 * self._model.channels * self._grid.padded[0] * self._grid.padded[1] // 256
        limits.check("max_memory_bytes", height * width * 3 + held_bytes, "the picture")
        self.metadata: dict[str, bytes] = {}

    def symbols(self) -> Latents:
        """The integers that the file holds, the same on every machine."""
        payloads = []
        for chunk in self._source.chunks():
            if chunk.type == "META":
                self.metadata |= _unpacked_metadata(chunk.payload, self._context.limits)
            elif chunk.type == "TILE":
                payloads.append(chunk.payload)
        if len(payloads) != self._grid.count():
            raise CorruptFile(f"the file holds {len(payloads)} of {self._grid.count()} tiles")
        return LatentCoder(self._model, self._grid, self._context).decode(payloads)

    def latents(self) -> NDArray[np.float32]:
        """The values that the synthesis receives, float32 ``[channels, height / 16, width / 16]``."""
        _, inverse = self._model.gains(self.header.quality)
        return self.symbols().values(self._model) * inverse[:, None, None]

    def pixels(self) -> NDArray[np.uint8]:
        """The picture, uint8 ``[height, width, 1 or 3]``."""
        pixels = np.zeros((self.header.height, self.header.width, MODES[self.header.mode]), np.uint8)
        self.fill(pixels)
        return pixels

    def fill(self, pixels: NDArray[np.uint8]) -> None:
        """Write the picture into ``pixels``."""
        from .tiled_transforms import synthesise

        latents = self.latents()
        synthesise(latents, self._model, self._grid, pixels, self._context)


def encode_picture(
    source: ImageSource, sink: ContainerWriter, params: CompressAIParameters, context: RunContext
) -> Mapping[str, Figure]:
    """Write header and chunks of one picture; report the quality of what a decoder here will show."""
    from .tiled_transforms import analyse, synthesise

    picture = source.picture()
    if picture is None or picture.mode not in MODES:
        raise UnsupportedInput(f"{source.name} is not 8-bit grey or RGB without alpha; the codec pc takes it")
    model = load_model(Path(params.weights) if params.weights else packaged_model_path())
    quality = params.quality_of(model.levels)
    height, width, _ = picture.pixels.shape
    grid = _grid(model, height, width)
    gains, inverse = model.gains(quality)
    latents = analyse(picture.pixels, model, grid, context) * gains[:, None, None]
    payloads, coded = LatentCoder(model, grid, context).encode(latents)
    described = PictureHeader(mode=picture.mode, width=width, height=height, quality=quality)
    sink.write_header(_header(described, model, own=bool(params.weights)))
    for window, payload in zip(grid.windows(1, 0), payloads, strict=True):
        rows, columns = window.inner
        size = (min(rows.stop, height) - rows.start) * (min(columns.stop, width) - columns.start)
        sink.write_chunk("TILE", payload, decoded_size=size * MODES[picture.mode])
    kept = {key: value for key, value in picture.metadata.items() if key in _KEPT_METADATA}
    if params.metadata and kept:
        sink.write_chunk("META", _packed_metadata(kept))
    shown = np.empty_like(picture.pixels)
    synthesise(coded.values(model) * inverse[:, None, None], model, grid, shown, context)
    return {"psnr_db": psnr_db(picture.pixels, shown), "tiles": len(payloads)}


def decode_picture(reader: LatentReader, sink: Any) -> Mapping[str, Figure]:
    """Decode to ``sink``."""
    header = reader.header
    pixels = sink.new_pixels(header.height, header.width, MODES[header.mode])
    reader.fill(pixels)
    sink.write_picture(Picture(pixels=pixels, metadata=reader.metadata))
    return {"width": header.width, "height": header.height}


def _grid(model: Model, height: int, width: int) -> Grid:
    return Grid(height, width, 64 if model.has_hyperprior else 16)


def _header(picture: PictureHeader, model: Model, *, own: bool) -> Header:
    """The package's weights are named by a few digits in the profile: small files feel every byte."""
    return Header(
        codec=CompressAICodec.id,
        bitstream=CompressAICodec.bitstream_version,
        parameters=picture.as_parameters(),
        profile=PROFILE if own else f"{PROFILE}/{model.sha256[:_WEIGHT_DIGITS]}",
        weights=(model.sha256,) if own else (),
    )


def _needed_model(header: Header, weights: str) -> Model:
    """The weights that the file was made with.

    Raises :class:`NumericProfileMismatch` where these are others, :class:`InvalidParameter` where they are not named.
    """
    if header.weights:
        if not weights:
            raise InvalidParameter(f"the file needs weights of SHA-256 {header.weights[0]}; give weights=FILE")
        model = load_model(Path(weights))
        wanted, profile = header.weights[0], PROFILE
        if model.sha256 != wanted:
            raise NumericProfileMismatch(f"the file needs weights of SHA-256 {wanted}, {weights} has {model.sha256}")
    else:
        model = load_model(packaged_model_path())
        profile = f"{PROFILE}/{model.sha256[:_WEIGHT_DIGITS]}"
    if header.profile != profile:
        raise NumericProfileMismatch(
            f"the file needs the arithmetic and weights {header.profile}, this version has {profile}; "
            "use the version of codeckit that wrote it"
        )
    return model


def _packed_metadata(metadata: Mapping[str, bytes]) -> bytes:
    """Per entry the number of its key, its size and its bytes; all compressed with zlib."""
    plain = bytearray()
    for key, value in sorted(metadata.items()):
        append_varint(plain, METADATA_KEYS.index(key))
        append_varint(plain, len(value))
        plain += value
    return zlib.compress(bytes(plain), 9)


def _unpacked_metadata(payload: bytes, limits: Limits) -> dict[str, bytes]:
    decompressor = zlib.decompressobj()
    try:
        plain = decompressor.decompress(payload, limits.max_header_bytes + 1)
    except zlib.error as error:
        raise CorruptFile(f"metadata: {error}") from error
    limits.check("max_header_bytes", len(plain), "the metadata")
    if not decompressor.eof or decompressor.unused_data:
        raise CorruptFile("metadata: the compressed data do not end with the chunk")
    found: dict[str, bytes] = {}
    position = 0
    while position < len(plain):
        number, position = read_varint(plain, position, "metadata key")
        size, position = read_varint(plain, position, "metadata size")
        if number >= len(METADATA_KEYS) or METADATA_KEYS[number] not in _KEPT_METADATA or size > len(plain) - position:
            raise CorruptFile(f"metadata: the entry before byte {position} does not fit")
        found[METADATA_KEYS[number]] = plain[position : position + size]
        position += size
    return found
