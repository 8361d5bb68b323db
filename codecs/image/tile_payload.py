"""The payload of a tile: its colour planes and its alpha plane, each by the pyramid or by lossless WebP.

Layout: the XXH3-64 of the pixels (8 bytes), then per component a mode byte, the varint size of the body and the body;
the last body has no size and goes to the end. A pyramid's body holds a byte with the number of lanes and, as bit 7,
whether means are regressed, the sizes of all lanes but the last, and the lanes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ...entropy.bit_io import append_varint, read_varint
from ...formats.checksums import checksum64
from ...formats.errors import ChecksumMismatch, CorruptFile
from .colour import from_ycocg, to_ycocg
from .integer_network import IntegerNetwork
from .pyramid_coding import EncodedTile, decode_tile, encode_tiles, level_count
from .pyramid_network import PLANES

__all__ = ["TileCoder", "TileEncoding"]

_PYRAMID = 0
_WEBP = 1
_HASH_BYTES = 8
_MAX_LANES = 16
_REGRESSION = 0x80
_WEBP_METHOD = 4
_SMALL_AREA = 1 << 14
_FLAT_PART = 0.1
_FEW_COLOURS = 1024
_LEAST_LANE = 1 << 16
"""Pixels a lane has at least: each learns on its own, which small ones pay for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileEncoding:
    """A tile's payload, and whether its colour was left to WebP."""

    payload: bytes
    plain: bool


class TileCoder:
    """Encodes and decodes tiles ``[height, width, channels]`` on ``threads`` threads; a context manager."""

    def __init__(self, network: IntegerNetwork, threads: int) -> None:
        self._network = network
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def encode(self, pixels: NDArray[np.uint8], *, lanes: int, regression: bool) -> TileEncoding:
        """Encode a tile, each component in its smaller form and in at most ``lanes`` lanes."""
        return self.encode_together([pixels], lanes=lanes, regression=regression)[0]

    def encode_together(
        self, tiles: Sequence[NDArray[np.uint8]], *, lanes: int, regression: bool
    ) -> list[TileEncoding]:
        """Encode tiles of one shape, each as it would be encoded alone."""
        by_component = zip(*(_components(pixels) for pixels in tiles), strict=True)
        bodies = zip(*(self._bodies(parts, lanes, regression) for parts in by_component), strict=True)
        return [_tile_encoding(pixels, own) for pixels, own in zip(tiles, bodies, strict=True)]

    def decode(self, payload: bytes, shape: tuple[int, int, int], level: int) -> NDArray[np.uint8]:
        """Decode a tile of ``shape`` at ``level``; full tiles are checked against their hash.

        Raises :class:`CorruptFile` and :class:`ChecksumMismatch`.
        """
        if len(payload) < _HASH_BYTES:
            raise CorruptFile(f"tile of {len(payload)} bytes: too short for its hash")
        height, width, channels = shape
        counts = {1: [1], 2: [1, 1], 3: [3], 4: [3, 1]}[channels]
        position = _HASH_BYTES
        parts = []
        for number, count in enumerate(counts):
            if position >= len(payload):
                raise CorruptFile("tile: it ends before its last component")
            mode = payload[position]
            position += 1
            size = len(payload) - position
            if number + 1 < len(counts):
                size, position = read_varint(payload, position, "tile component")
            if size > len(payload) - position:
                raise CorruptFile("tile: a component is longer than the tile")
            body = payload[position : position + size]
            parts.append(self._decoded_component(mode, body, (count, height, width), level))
            position += size
        pixels = np.concatenate(parts, axis=2)
        digest = checksum64(pixels.tobytes()).to_bytes(_HASH_BYTES, "little")
        if level == 0 and digest != payload[:_HASH_BYTES]:
            raise ChecksumMismatch("tile: decoded pixels differ from those encoded")
        return pixels

    def _bodies(self, parts: Sequence[NDArray[np.uint8]], lanes: int, regression: bool) -> list[tuple[int, bytes]]:
        """Mode and body of one component ``[height, width, 1 or 3]`` of every tile."""
        webp = [self._pool.submit(_webp, pixels) if _drawn(pixels) else None for pixels in parts]
        colour = parts[0].shape[2] == PLANES
        planes = [to_ycocg(pixels) if colour else pixels.transpose(2, 0, 1).astype(np.int16) for pixels in parts]
        lanes = min(lanes, max(1, planes[0][0].size // _LEAST_LANE))
        encoded = encode_tiles(np.stack(planes), self._network, lanes=lanes, regression=regression, pool=self._pool)
        bodies = []
        for tile, job in zip(encoded, webp, strict=True):
            body = _packed(tile, regression)
            plain = None if job is None else job.result()
            bodies.append((_PYRAMID, body) if plain is None or len(plain) >= len(body) else (_WEBP, plain))
        return bodies

    def _decoded_component(self, mode: int, body: bytes, shape: tuple[int, int, int], level: int) -> NDArray[np.uint8]:
        if mode == _WEBP:
            return _from_webp(body, shape)[:: 1 << level, :: 1 << level]
        if mode != _PYRAMID:
            raise CorruptFile(f"tile: unknown component mode {mode}")
        reached = min(level, level_count(*shape[1:]))
        lanes, regression = _unpacked(body)
        planes = decode_tile(lanes, shape, self._network, level=reached, regression=regression, pool=self._pool)
        pixels = from_ycocg(planes) if shape[0] == PLANES else planes.transpose(1, 2, 0).astype(np.uint8)
        return pixels[:: 1 << (level - reached), :: 1 << (level - reached)]


def _tile_encoding(pixels: NDArray[np.uint8], bodies: Sequence[tuple[int, bytes]]) -> TileEncoding:
    payload = bytearray(checksum64(pixels.tobytes()).to_bytes(_HASH_BYTES, "little"))
    for number, (mode, body) in enumerate(bodies):
        payload.append(mode)
        if number + 1 < len(bodies):
            append_varint(payload, len(body))
        payload += body
    return TileEncoding(payload=bytes(payload), plain=bodies[0][0] == _WEBP)


def _components(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Colour or grey first, then alpha if there is one."""
    channels = pixels.shape[2]
    if channels in (1, PLANES):
        return [pixels]
    return [np.ascontiguousarray(pixels[:, :, : channels - 1]), np.ascontiguousarray(pixels[:, :, channels - 1 :])]


def _packed(encoded: EncodedTile, regression: bool) -> bytes:
    body = bytearray([len(encoded.lanes) | (_REGRESSION if regression else 0)])
    for lane in encoded.lanes[:-1]:
        append_varint(body, len(lane))
    for lane in encoded.lanes:
        body += lane
    return bytes(body)


def _unpacked(body: bytes) -> tuple[Sequence[bytes], bool]:
    """Lanes, and whether means are regressed."""
    if not body:
        raise CorruptFile("tile: a pyramid without its first byte")
    count, regression, position = body[0] & ~_REGRESSION, bool(body[0] & _REGRESSION), 1
    if not 1 <= count <= _MAX_LANES:
        raise CorruptFile(f"tile: {count} lanes")
    sizes = []
    for _ in range(count - 1):
        lane_size, position = read_varint(body, position, "size of a lane")
        sizes.append(lane_size)
    sizes.append(len(body) - position - sum(sizes))
    if min(sizes) < 0:
        raise CorruptFile("tile: lanes longer than the tile")
    lanes = []
    for lane_size in sizes:
        lanes.append(body[position : position + lane_size])
        position += lane_size
    return lanes, regression


def _drawn(pixels: NDArray[np.uint8]) -> bool:
    """Whether WebP may win: a small picture, one with flat areas, or one with few colours."""
    height, width, _ = pixels.shape
    if height * width < _SMALL_AREA:
        return True
    repeated = np.mean((pixels[:, 1:] == pixels[:, :-1]).all(axis=2)) if width > 1 else 1.0
    sample = pixels.reshape(height * width, -1)[:: max(1, height * width // _SMALL_AREA)]
    colours = len(np.unique(sample, axis=0))
    return bool(repeated > _FLAT_PART or colours < _FEW_COLOURS)


def _webp(pixels: NDArray[np.uint8]) -> bytes | None:
    """The component as lossless WebP, or None where this build of Pillow does not give the pixels back."""
    from PIL import Image, features

    if not features.check("webp"):
        return None
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=100, method=_WEBP_METHOD)
    data = buffer.getvalue()
    height, width, count = pixels.shape
    same = np.array_equal(_from_webp(data, (count, height, width)), pixels)
    return data if same else None


def _from_webp(data: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            if (image.height, image.width) != shape[1:]:
                raise CorruptFile(f"tile: its WebP picture is {image.width}x{image.height}")
            pixels = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise CorruptFile(f"tile: its WebP picture is damaged: {error}") from error
    return pixels[:, :, : shape[0]]
