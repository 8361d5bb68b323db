"""Files of CacheGen: chunks encoded in order, and decoded whole or in part, on all cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...entropy.lane_threads import in_threads
from ...formats.errors import CorruptFile
from .cachegen_chunks import ChunkDecoder, ChunkEncoder
from .cachegen_profiles import channels_last, fits, profile_tables
from .cachegen_tables import read_tables
from .decoding import LayerRange
from .layer_chunks import LayerChunks
from .part_reader import PartReader
from .placement import place
from .waves import WAVE_SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.reader import ContainerReader
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .cachegen_tables import CacheGenTables
    from .decoding import CacheRange
    from .layer_chunks import Place

__all__ = ["CHUNK", "TABLE_CHUNK", "decode_chunks", "encode_chunks"]

CHUNK = "KVCG"
TABLE_CHUNK = "CGTB"


def encode_chunks(
    cache: Cache, tables: CacheGenTables, chunk_tokens: int, threads: int
) -> Iterator[tuple[Place, bytes, float]]:
    """Layer, first and last token of every chunk in file order, its payload and its ideal bits."""
    reader = PartReader(cache, rotated=True)
    encoder = ChunkEncoder(tables)
    first_parts = _first_parts(cache.table)

    def encode(first: int, last: int) -> list[tuple[Place, bytes, float]]:
        found = []
        for layer, start, stop in wave[first:last]:
            row = cache.table.layers[layer]
            begin, end = max(start - row.first_token, 0), stop - row.first_token
            parts = (channels_last(reader.read(layer, part, begin, end)) for part in range(len(row.parts)))
            found.append(((layer, start, stop), *encoder.encode(first_parts[layer], parts)))
        return found

    for wave in _waves(cache.table, chunk_tokens):
        for found in in_threads(encode, [(n, n + 1) for n in range(len(wave))], threads):
            yield from found


def decode_chunks(
    source: ContainerReader,
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
    *,
    chunk_tokens: int,
    profile: str | None,
    whole: bool,
    at_once: bool,
    threads: int,
    context: RunContext,
) -> Iterator[LayerRange]:
    """Fill ``result`` with ``wanted`` as the file arrives; yield every range of it that is final, counted like it.

    ``whole`` reads the file front to back and verifies it on the way; ``at_once`` waits for many layers, which keeps
    more threads busy.
    """
    decoder: ChunkDecoder | None = None
    if source.header.weights:
        decoder = ChunkDecoder(profile_tables(source, table, profile))
    chunks = LayerChunks(table, chunk_tokens, CHUNK, before=TABLE_CHUNK)
    waiting: list[tuple[Place, bytes]] = []
    symbols = 0
    for found, data in chunks.read(source, wanted, whole=whole):
        if found is None:
            tables = read_tables(data)
            if not fits(tables, table):
                raise CorruptFile(f"the {TABLE_CHUNK} chunk has tables of other parts than the cache")
            decoder = ChunkDecoder(tables)
            continue
        if decoder is None:
            raise CorruptFile(f"the file has no {TABLE_CHUNK} chunk before its first tokens and names no profile")
        waiting.append((found, data))
        symbols += (found[2] - found[1]) * table.layers[found[0]].channels
        if not at_once or symbols >= WAVE_SYMBOLS:
            yield from _decode_wave(waiting, decoder, table, wanted, result, threads, context)
            waiting, symbols = [], 0
    if decoder is not None:
        yield from _decode_wave(waiting, decoder, table, wanted, result, threads, context)


def _decode_wave(
    waiting: list[tuple[Place, bytes]],
    decoder: ChunkDecoder,
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
    threads: int,
    context: RunContext,
) -> Iterator[LayerRange]:
    first_parts = _first_parts(table)
    first = wanted.tokens[0]

    def decode(begin: int, end: int) -> None:
        for (layer, start, stop), data in waiting[begin:end]:
            row = table.layers[layer]
            kept = max(start, row.first_token)
            parts = decoder.decode(data, first_parts[layer], row.parts, stop - kept, f"layer {layer}")
            _store(parts, layer, kept, stop, table, wanted, result)

    in_threads(decode, [(n, n + 1) for n in range(len(waiting))], threads)
    for (layer, start, stop), _ in waiting:
        context.report("decode", stop, table.tokens, unit="tokens")
        begin, end = max(start, first, table.layers[layer].first_token), min(stop, wanted.tokens[1])
        if begin < end and wanted.layers[0] <= layer < wanted.layers[1]:
            yield LayerRange(layer=layer - wanted.layers[0], start=begin - first, stop=end - first)


def _store(
    parts: list[NDArray[np.float32]],
    layer: int,
    begin: int,
    end: int,
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
) -> None:
    """Put the wanted tokens of parts [heads, tokens, width] where they belong."""
    first, last = max(begin, wanted.tokens[0]), min(end, wanted.tokens[1])
    if first >= last or not wanted.layers[0] <= layer < wanted.layers[1]:
        return
    number = layer - wanted.layers[0]
    offset = first - wanted.tokens[0] - result.table.layers[number].first_token
    for part, values in zip(table.layers[layer].parts, parts, strict=True):
        kept = np.ascontiguousarray(values[:, first - begin : last - begin])
        place(kept, None, None, part.dtype, result.parts[number, part.role].data, offset)


def _first_parts(table: CacheTable) -> list[int]:
    """The number of the first part of every layer, counted through all of them."""
    firsts = [0]
    for row in table.layers:
        firsts.append(firsts[-1] + len(row.parts))
    return firsts


def _waves(table: CacheTable, chunk_tokens: int) -> Iterator[list[Place]]:
    wave: list[Place] = []
    symbols = 0
    for layer, start, stop in LayerChunks(table, chunk_tokens, CHUNK).places():
        wave.append((layer, start, stop))
        symbols += (stop - start) * table.layers[layer].channels
        if symbols >= WAVE_SYMBOLS:
            yield wave
            wave, symbols = [], 0
    if wave:
        yield wave
