"""Reading and writing the chunks of a ``pc`` file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats.errors import CorruptFile, InvalidParameter, NumericProfileMismatch, UnsupportedInput
from ...formats.header import Header
from ...formats.mapped_arrays import release_pages
from ...formats.pictures import Picture
from ..protocol import Figure
from .carried_file import pack_file, pack_metadata, unpack_file, unpack_metadata
from .integer_network import PROFILE, IntegerNetwork, load_integer_network
from .packaged_weights import packaged_network_path
from .photo_codec import CARRIED, PcCodec, PhotoHeader, PhotoParameters, tiles_of
from .pyramid_coding import level_size
from .tile_payload import TileCoder, TileEncoding
from .worker_threads import worker_count

if TYPE_CHECKING:
    from ...formats.images import ImageSource
    from ...formats.reader import ContainerReader
    from ...formats.writer import ContainerWriter
    from ..run_context import RunContext

__all__ = ["PhotoReader", "decode_photo", "encode_photo", "encode_picture", "tile_coder", "write_picture"]

_WEIGHT_DIGITS = 12


class PhotoReader:
    """Random access to the pixels of a file: ``reader.pixels[top:bottom, left:right]``."""

    def __init__(self, source: ContainerReader, context: RunContext) -> None:
        self._source = source
        self._photo = PhotoHeader.from_header(source.header)
        if self._photo.mode == CARRIED:
            raise UnsupportedInput("this file carries an image as it was; decode it as a whole")
        _check_profile(source.header)
        self._threads = worker_count(context)
        self.shape = (self._photo.height, self._photo.width, self._photo.channels)
        self.pixels = self

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Pixels of a window, uint8 ``[rows, columns, channels]``; slices need step 1."""
        if not (isinstance(window, tuple) and len(window) == 2 and all(isinstance(item, slice) for item in window)):
            raise InvalidParameter("index pixels with two slices: rows, columns")
        top, bottom, row_step = window[0].indices(self._photo.height)
        left, right, column_step = window[1].indices(self._photo.width)
        if row_step != 1 or column_step != 1 or bottom <= top or right <= left:
            raise InvalidParameter("the window is empty or has a step other than 1")
        result = np.empty((bottom - top, right - left, self._photo.channels), np.uint8)
        entries = [entry for entry in self._source.index() if entry.type == "TILE"]
        with tile_coder(self._threads) as coder:
            for entry, tile in zip(entries, self._photo.tiles(), strict=False):
                inside = (max(tile[0], left), max(tile[1], top), min(tile[2], right), min(tile[3], bottom))
                if inside[0] >= inside[2] or inside[1] >= inside[3]:
                    continue
                pixels = coder.decode(self._source.read(entry), _shape(tile, self._photo), 0)
                result[inside[1] - top : inside[3] - top, inside[0] - left : inside[2] - left] = pixels[
                    inside[1] - tile[1] : inside[3] - tile[1], inside[0] - tile[0] : inside[2] - tile[0]
                ]
        return result


def encode_photo(
    source: ImageSource, sink: ContainerWriter, params: PhotoParameters, context: RunContext
) -> Mapping[str, Figure]:
    """Write header and chunks of one picture."""
    for message in source.warnings():
        context.warning(message)
    picture = source.picture()
    if picture is None:
        return _carry(source, sink, context)
    return encode_picture(picture, sink, params, context)


def encode_picture(
    picture: Picture, sink: ContainerWriter, params: PhotoParameters, context: RunContext
) -> Mapping[str, Figure]:
    """Write header and chunks of a picture, tile by tile."""
    with tile_coder(worker_count(context)) as coder:
        return write_picture(picture, sink, params, _encoded_tiles(picture, coder, params, context))


def write_picture(
    picture: Picture, sink: ContainerWriter, params: PhotoParameters, encoded: Iterator[TileEncoding]
) -> Mapping[str, Figure]:
    """Write header and chunks of a picture whose tiles come encoded, in order."""
    parameters: dict[str, Any] = {"mode": picture.mode, "size": [*picture.pixels.shape[1::-1]]}
    if max(parameters["size"]) > params.tile:
        parameters["tile"] = params.tile
    header = Header(
        codec=PcCodec.id, bitstream=PcCodec.bitstream_version, parameters=parameters, profile=_profile(_network())
    )
    sink.write_header(header)
    photo = PhotoHeader.from_header(header)
    tiles = photo.tiles()
    plain = 0
    for tile, one in zip(tiles, encoded, strict=True):
        plain += one.plain
        sink.write_chunk("TILE", one.payload, span=tile, decoded_size=int(np.prod(_shape(tile, photo))))
    # after the tiles, so that a tile's sequence number is its place in the picture whatever is lost
    if picture.metadata:
        sink.write_chunk("META", pack_metadata(picture.metadata))
    return {"tiles": len(tiles), "fallback_tiles": plain}


def decode_photo(source: ContainerReader, sink: Any, level: int, context: RunContext) -> Mapping[str, Figure]:
    """Decode to ``sink``, at ``level`` halvings."""
    photo = PhotoHeader.from_header(source.header)
    if photo.mode == CARRIED:
        return _decode_carried(source, sink, level)
    _check_profile(source.header)
    context.limits.check("max_dimension", max(photo.width, photo.height), "the picture")
    context.limits.check("max_pixels", photo.width * photo.height, "the picture")
    height, width = level_size(photo.height, level), level_size(photo.width, level)
    context.limits.check("max_memory_bytes", height * width * photo.channels, "the picture")
    tiles = photo.tiles()
    step = 1 << level
    if len(tiles) > 1 and photo.tile % step:
        raise InvalidParameter(f"level={level} is too coarse for tiles of {photo.tile} pixels")
    pixels = sink.new_pixels(height, width, photo.channels)
    metadata: dict[str, bytes] = {}
    done = 0
    with tile_coder(worker_count(context)) as coder:
        for chunk in source.chunks():
            if chunk.type == "META":
                metadata = unpack_metadata(chunk.payload, context.limits)
            elif chunk.type == "TILE":
                if chunk.sequence >= len(tiles):
                    raise CorruptFile(f"chunk at byte {chunk.offset}: more tiles than the picture has")
                tile = tiles[chunk.sequence]
                part = coder.decode(chunk.payload, _shape(tile, photo), level)
                top, left = tile[1] // step, tile[0] // step
                pixels[top : top + part.shape[0], left : left + part.shape[1]] = part
                done += 1
                if tile[2] == photo.width:
                    release_pages(pixels)
                context.report("decode", done, len(tiles), unit="tiles")
    if done != len(tiles):
        if not source.recover:
            raise CorruptFile(f"the file holds {done} of {len(tiles)} tiles")
        context.warning(f"{len(tiles) - done} of {len(tiles)} tiles are lost and were left black")
    sink.write_picture(Picture(pixels=pixels, metadata=metadata))
    return {"width": width, "height": height}


def _encoded_tiles(
    picture: Picture, coder: TileCoder, params: PhotoParameters, context: RunContext
) -> Iterator[TileEncoding]:
    height, width, _ = picture.pixels.shape
    tiles = tiles_of(width, height, params.tile)
    for number, (left, top, right, bottom) in enumerate(tiles):
        pixels = np.ascontiguousarray(picture.pixels[top:bottom, left:right])
        yield coder.encode(pixels, lanes=params.lanes, regression=params.regression)
        if right == width:
            release_pages(picture.pixels)
        context.report("encode", number + 1, len(tiles), unit="tiles")


def _carry(source: ImageSource, sink: ContainerWriter, context: RunContext) -> Mapping[str, Figure]:
    """Write the input file itself: nothing that could be lost is touched."""
    data, suffix, size = source.carried()
    context.warning(f"{source.name} is not 8-bit L, LA, RGB or RGBA; it is carried as it is")
    parameters: dict[str, Any] = {"mode": CARRIED, "size": list(size)}
    sink.write_header(Header(codec=PcCodec.id, bitstream=PcCodec.bitstream_version, parameters=parameters))
    sink.write_chunk("FILE", pack_file(data, suffix), decoded_size=len(data))
    return {"tiles": 0, "fallback_tiles": 0}


def _decode_carried(source: ContainerReader, sink: Any, level: int) -> Mapping[str, Figure]:
    if level:
        raise InvalidParameter("this file carries an image as it was; it has no levels")
    found = [
        unpack_file(chunk.payload, chunk.decoded_size, source.limits)
        for chunk in source.chunks()
        if chunk.type == "FILE"
    ]
    if len(found) != 1:
        raise CorruptFile(f"a carried image is one chunk, this file has {len(found)}")
    data, suffix = found[0]
    sink.write_file(data, suffix)
    return {"carried_bytes": len(data)}


def _shape(tile: tuple[int, int, int, int], photo: PhotoHeader) -> tuple[int, int, int]:
    return tile[3] - tile[1], tile[2] - tile[0], photo.channels


def _profile(network: IntegerNetwork) -> str:
    """The numeric profile and the weights' digest, shortened: small files feel every byte."""
    return f"{PROFILE}/{network.digest[:_WEIGHT_DIGITS]}"


def _check_profile(header: Header) -> None:
    expected = _profile(_network())
    if header.profile != expected:
        raise NumericProfileMismatch(
            f"the file needs the arithmetic and weights {header.profile}, this version has {expected}; "
            "use the version of codeckit that wrote it"
        )


@cache
def _network() -> IntegerNetwork:
    return load_integer_network(packaged_network_path())


@contextmanager
def tile_coder(threads: int) -> Iterator[TileCoder]:
    """A tile coder; torch uses ``threads`` threads meanwhile, which changes no result."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with TileCoder(_network(), threads) as coder:
            yield coder
    finally:
        torch.set_num_threads(before)
