"""CacheGen's chunks: per layer, range of tokens and part the peaks, a lane block of anchors and one of deltas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.lanes import encode_lanes
from ...formats.errors import CorruptFile, InvalidParameter
from .cachegen_quantiser import (
    GROUP_TOKENS,
    dequantise_deltas,
    dequantise_maxima,
    peaks_from_bytes,
    peaks_to_bytes,
    quantise_deltas,
    quantise_maxima,
)
from .cachegen_tables import CacheGenTables, build_tables, load_tables, read_tables, write_tables
from .decoding import CacheRange, LayerRange
from .number_formats import check_finite, from_float32, to_float32

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...entropy.frequency_table import FrequencyTable
    from ...formats.reader import ContainerReader
    from ..run_context import RunContext
    from .cache import Cache, CacheTable

__all__ = ["decode_chunks", "encode_chunk", "places", "published_bins", "tables_for"]

_LANE_CHANNELS = 16


def published_bins(bins: int, layer: int, layers: int, role: str) -> int:
    """The published code's bins for keys and values by layer at quality level ``bins`` of 1, 2, 3."""
    if bins == 3:
        return 32
    if bins == 2:
        finer = layers // 3 if role == "key" else 2
        return 32 if layer < finer else 16
    coarse_from = 2 * layers // 3 if role == "key" else 2
    return 12 if layer >= coarse_from else 16


def tables_for(
    cache: Cache, variant: str, level: int, bins: int, profile: str
) -> tuple[CacheGenTables, bytes | None, str | None]:
    """The tables to code with; the payload to store where they are the cache's own; the profile's SHA-256 else."""
    table = cache.table
    if profile != "none":
        if variant == "published-code":
            raise InvalidParameter("variant=published-code measures its tables on the cache; it takes no profile")
        tables, model, sha256 = load_tables(Path(profile), level)
        if table.model and model and table.model != model:
            raise InvalidParameter(
                f"the cache is of model {table.model!r}, the profile of {model!r}; use a profile made for it"
            )
        _check(tables, table, profile)
        return tables, None, sha256
    values = [_flat(cache, layer, part.role, 0, None) for layer, part, _ in cache.each()]
    own_bins = None
    if variant == "published-code":
        own_bins = [published_bins(bins, layer, len(table.layers), part.role) for layer, part, _ in cache.each()]
    tables = build_tables([values], len(table.layers), level=level, bins=own_bins)
    return tables, write_tables(tables), None


def encode_chunk(cache: Cache, tables: CacheGenTables, layer: int, start: int, stop: int) -> bytes:
    """The payload of tokens ``start`` to ``stop`` of the cache in one layer."""
    row = cache.table.layers[layer]
    out = bytearray()
    first = _first_part(cache.table, layer)
    for index, part in enumerate(row.parts):
        own = tables.parts[first + index]
        values = _flat(cache, layer, part.role, max(start - row.first_token, 0), stop - row.first_token)
        if own.anchors:
            anchors, others, peaks = quantise_deltas(values, own.step)
            blocks = [_encode(anchors, own.anchors), _encode(others, own.others)]
        else:
            others, peaks = quantise_maxima(values, int(own.step))
            blocks = [_encode(others, own.others)]
        out += peaks_to_bytes(peaks)
        for block in blocks:
            append_varint(out, len(block))
            out += block
    return bytes(out)


def decode_chunks(
    source: ContainerReader,
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
    *,
    chunk_tokens: int,
    profile: str | None,
    whole: bool,
    threads: int,
    context: RunContext,
) -> Iterator[LayerRange]:
    """Fill ``result`` with ``wanted`` as the file arrives; yield every range of it that is final, counted like it.

    ``whole`` reads the file front to back and verifies it on the way.
    """
    first = wanted.tokens[0]
    tables = _profile_tables(source, table, profile)
    payloads = _all(source, table, chunk_tokens) if whole else _some(source, table, chunk_tokens, wanted)
    for item in payloads:
        if isinstance(item, bytes):
            tables = read_tables(item)
            _check(tables, table, "the file")
            continue
        if tables is None:
            raise CorruptFile("the file has no CGTB chunk before its first tokens and names no profile")
        (layer, start, stop), data = item
        _store(data, tables, layer, start, stop, table, wanted, result, threads)
        context.report("decode", stop, table.tokens, unit="tokens")
        begin, end = max(start, first, table.layers[layer].first_token), min(stop, wanted.tokens[1])
        if begin < end and wanted.layers[0] <= layer < wanted.layers[1]:
            yield LayerRange(layer=layer - wanted.layers[0], start=begin - first, stop=end - first)


def places(table: CacheTable, chunk_tokens: int) -> Iterator[tuple[int, int, int]]:
    """(layer, start, stop) of every chunk in file order."""
    for start in range(0, table.tokens, chunk_tokens):
        stop = min(start + chunk_tokens, table.tokens)
        for layer, row in enumerate(table.layers):
            if row.first_token < stop:
                yield layer, start, stop


def _store(
    data: bytes,
    tables: CacheGenTables,
    layer: int,
    start: int,
    stop: int,
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
    threads: int,
) -> None:
    row = table.layers[layer]
    begin = max(start, row.first_token)
    tokens = stop - begin
    first_part = _first_part(table, layer)
    first, last = max(begin, wanted.tokens[0]), min(stop, wanted.tokens[1])
    position = 0
    for index, part in enumerate(row.parts):
        own = tables.parts[first_part + index]
        groups = -(-tokens // GROUP_TOKENS) if own.anchors else tokens
        if position + 2 * groups > len(data):
            raise CorruptFile(f"layer {layer} {part.role}: the data end inside its peaks")
        peaks = peaks_from_bytes(data, position, groups)
        if not np.isfinite(peaks).all():
            raise CorruptFile(f"layer {layer} {part.role}: a peak is not finite")
        position += 2 * groups
        if own.anchors:
            anchors, position = _decode(data, position, own.anchors, groups, threads)
            others, position = _decode(data, position, own.others, tokens - groups, threads)
            values = dequantise_deltas(anchors, others, peaks, own.step)
        else:
            symbols, position = _decode(data, position, own.others, tokens, threads)
            values = dequantise_maxima(symbols, peaks, int(own.step))
        if first >= last or not wanted.layers[0] <= layer < wanted.layers[1]:
            continue
        # [tokens, channels] -> [heads, tokens, width]
        by_head = values.reshape(tokens, part.heads, part.width).swapaxes(0, 1)
        number = layer - wanted.layers[0]
        place = first - wanted.tokens[0] - result.table.layers[number].first_token
        kept = from_float32(by_head[:, first - begin : last - begin], part.dtype).data
        result.parts[number, part.role].data[:, place : place + last - first] = kept
    if position != len(data):
        raise CorruptFile(f"layer {layer}: {len(data) - position} bytes left over after its parts")


def _encode(symbols: NDArray[np.int32], tables: tuple[FrequencyTable, ...]) -> bytes:
    """A lane block of ``symbols`` [samples, channels], sixteen channels to a lane; empty for no samples."""
    samples, channels = symbols.shape
    if samples == 0:
        return b""
    by_channel = np.ascontiguousarray(symbols.T)
    edges = range(0, channels, _LANE_CHANNELS)
    lanes = [by_channel[a : a + _LANE_CHANNELS].ravel() for a in edges]
    classes = np.zeros((len(lanes), _LANE_CHANNELS), np.int64)
    classes.ravel()[:channels] = np.arange(channels)
    return encode_lanes(lanes, tables, classes=classes, group_size=samples, tables_inside=False)


def _decode(
    data: bytes, position: int, tables: tuple[FrequencyTable, ...], samples: int, threads: int
) -> tuple[NDArray[np.int32], int]:
    from ...entropy.lanes import decode_lane_list

    length, position = read_varint(data, position, "CacheGen lanes")
    if length > len(data) - position:
        raise CorruptFile(f"CacheGen lanes: {length} bytes promised, {len(data) - position} are left")
    channels = len(tables)
    if samples == 0 and length == 0:
        return np.zeros((0, channels), np.int32), position
    block = memoryview(data)[position : position + length]
    lanes = decode_lane_list(block, tables=tables, threads=threads, max_symbols=samples * channels)
    flat = np.concatenate(lanes) if lanes else np.zeros(0, np.int64)
    if flat.size != samples * channels:
        raise CorruptFile(f"CacheGen lanes: {flat.size} symbols, expected {samples} x {channels}")
    if np.abs(flat).max(initial=0) >= 1 << 31:
        raise CorruptFile("CacheGen lanes: a symbol is out of range")
    return flat.reshape(channels, samples).T.astype(np.int32), position + length


def _flat(cache: Cache, layer: int, role: str, start: int, stop: int | None) -> NDArray[np.float32]:
    """A part as float32 [tokens, channels], checked."""
    tensor = cache.parts[layer, role]
    values = to_float32(type(tensor)(dtype=tensor.dtype, data=tensor.data[:, start:stop]))
    check_finite(values, f"layer {layer} {role}")
    return np.ascontiguousarray(values.swapaxes(0, 1)).reshape(values.shape[1], -1)


def _first_part(table: CacheTable, layer: int) -> int:
    return sum(len(row.parts) for row in table.layers[:layer])


def _check(tables: CacheGenTables, table: CacheTable, name: str) -> None:
    rows = [part for layer in table.layers for part in layer.parts]
    if len(rows) != len(tables.parts):
        raise InvalidParameter(f"{name} has tables of {len(tables.parts)} parts, the cache {len(rows)}")
    for number, (part, own) in enumerate(zip(rows, tables.parts, strict=True)):
        if len(own.others) != part.channels or len(own.anchors) not in (0, part.channels):
            raise InvalidParameter(
                f"{name} has tables of {len(own.others)} channels for part {number}, the cache {part.channels}"
            )


def _profile_tables(source: ContainerReader, table: CacheTable, profile: str | None) -> CacheGenTables | None:
    hashes = source.header.weights
    if not hashes:
        return None
    if profile is None:
        raise InvalidParameter(f"the file needs the profile {hashes[0][:12]}...; pass it with --set profile=FILE")
    level = source.header.parameters.get("level")
    if not isinstance(level, int):
        raise CorruptFile(f"header: level {level!r} is not a number")
    tables, model, sha256 = load_tables(Path(profile), level)
    if sha256 != hashes[0]:
        raise InvalidParameter(
            f"the file needs the profile {hashes[0][:12]}..., {profile} (of {model!r}) is {sha256[:12]}..."
        )
    _check(tables, table, profile)
    return tables


_Item = tuple[tuple[int, int, int], bytes]


def _all(source: ContainerReader, table: CacheTable, chunk_tokens: int) -> Iterator[_Item | bytes]:
    expected = places(table, chunk_tokens)
    begun = False
    for chunk in source.chunks():
        if not chunk.type[0].isupper():
            continue
        if chunk.type == "CGTB" and not begun:
            yield chunk.payload
            continue
        begun = True
        place = next(expected, None)
        if place is None or chunk.type != "KVCG" or chunk.span not in (None, place):
            raise CorruptFile(
                f"chunk {chunk.sequence} is {chunk.type} {chunk.span}, expected KVCG {place or 'no more'}"
            )
        yield place, chunk.payload
    missing = next(expected, None)
    if missing is not None:
        raise CorruptFile(f"the file ends before layer {missing[0]} of tokens {missing[1]} to {missing[2]}")


def _some(source: ContainerReader, table: CacheTable, chunk_tokens: int, wanted: CacheRange) -> Iterator[_Item | bytes]:
    by_place: dict[Any, Any] = {(entry.type, entry.span): entry for entry in source.index()}
    own = by_place.get(("CGTB", ()))
    if own is not None:
        yield source.read(own)
    for place in places(table, chunk_tokens):
        layer, start, stop = place
        inside = wanted.layers[0] <= layer < wanted.layers[1]
        if inside and start < wanted.tokens[1] and stop > wanted.tokens[0]:
            entry = by_place.get(("KVCG", place))
            if entry is None:
                raise CorruptFile(f"the index has no chunk of layer {layer}, tokens {start} to {stop}")
            yield place, source.read(entry)
