"""Reading a cache: whole files front to back, or just the chunks that a range of layers and tokens needs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import CorruptFile
from ...formats.safetensors_file import DTYPES, Tensor
from .cache import Cache, CacheTable
from .chunk_decoding import Decoder, TokenChunk
from .chunk_order import all_chunks, some_chunks
from .encoding import MODEL_CHUNK, WEIGHT_CHUNK
from .placement import Turns
from .self_model import read_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.reader import ContainerReader
    from ..run_context import RunContext
    from .profile import Profile

__all__ = ["CacheRange", "LayerRange", "blank_cache", "decode_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRange:
    """Half-open ranges of layers and tokens."""

    layers: tuple[int, int]
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRange:
    """Tokens ``start`` to ``stop`` of one layer; in a layer with a window those before its first token are missing."""

    layer: int
    start: int
    stop: int


def decode_layers(
    source: ContainerReader,
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
    *,
    profile: Profile | None,
    quality: int,
    chunk_tokens: int,
    positions: NDArray[np.int64] | None,
    whole: bool,
    at_once: bool,
    context: RunContext,
) -> Iterator[LayerRange]:
    """Fill ``result`` with ``wanted`` as the file arrives; yield every range of it that is final, counted like it.

    ``positions`` [tokens of the range] places the keys elsewhere; None leaves them where they were. With ``whole`` the
    file is read front to back and verified on the way, otherwise only what the range needs is read. Each layer of a
    token chunk is decoded as soon as it is there; ``at_once`` waits for a token chunk for every thread.
    """
    model: Any = profile
    first = wanted.layers[0]
    if profile is not None and profile.model.reach:
        every = profile.model.intra_every
        first = first - first % every if every else 0
    turns: Turns | None = None
    if table.rotary is not None:
        if positions is None:
            positions = table.first_position + np.arange(*wanted.tokens)
        turns = Turns.to_positions(table.rotary, positions)
    arriving = (
        all_chunks(source, table, chunk_tokens) if whole else some_chunks(source, table, chunk_tokens, wanted, first)
    )
    threads = context.threads or len(os.sched_getaffinity(0))
    decoder: Decoder | None = None
    chunks: list[TokenChunk] = []
    for kind, span, payload in arriving:
        if kind == MODEL_CHUNK:
            model = read_model(payload, table)
        elif kind == WEIGHT_CHUNK:
            if model is None:
                raise CorruptFile(f"the file has no {MODEL_CHUNK} chunk before its first tokens and names no profile")
            if decoder is None:
                decoder = Decoder(table, wanted, model, quality, turns, result, threads)
            context.report("decode", span[0], table.tokens, unit="tokens")
            if len(chunks) == threads or not at_once:
                yield from _ranges(decoder.decode(chunks), wanted, table)
                chunks.clear()
            chunks.append(decoder.begin(span, payload))
        elif decoder is not None:
            chunks[-1].waiting[span[0]] = payload
            if not at_once:
                yield from _ranges(decoder.decode(chunks), wanted, table)
    if decoder is not None:
        yield from _ranges(decoder.decode(chunks), wanted, table)
    context.report("decode", wanted.tokens[1], table.tokens, unit="tokens")


def _ranges(done: list[tuple[int, int, int]], wanted: CacheRange, table: CacheTable) -> Iterator[LayerRange]:
    """The parts of decoded (layer, start, stop) that were asked for."""
    first = wanted.tokens[0]
    for layer, start, stop in done:
        begin, end = max(start, first, table.layers[layer].first_token), min(stop, wanted.tokens[1])
        if begin < end and wanted.layers[0] <= layer < wanted.layers[1]:
            yield LayerRange(layer=layer - wanted.layers[0], start=begin - first, stop=end - first)


def blank_cache(table: CacheTable, wanted: CacheRange, context: RunContext) -> Cache:
    """A cache of uninitialised arrays for ``wanted``, after checking the limits."""
    tokens = wanted.tokens[1] - wanted.tokens[0]
    layers = []
    for number in range(*wanted.layers):
        row = table.layers[number]
        dropped = max(row.first_token - wanted.tokens[0], 0)
        if dropped >= tokens:
            raise CorruptFile(
                f"layer {number} keeps the tokens from {row.first_token} on; none of them is in the range"
            )
        layers.append(replace(row, first_token=dropped))
    reduced = replace(
        table,
        layers=tuple(layers),
        tokens=tokens,
        first_position=table.first_position + wanted.tokens[0],
    )
    context.limits.check("max_output_bytes", reduced.size_bytes, "the decoded cache")
    context.limits.check("max_memory_bytes", reduced.size_bytes, "the decoded cache")
    parts: dict[tuple[int, str], Tensor] = {
        (number, part.role): Tensor(
            dtype=part.dtype,
            data=np.empty((part.heads, tokens - row.first_token, part.width), DTYPES[part.dtype]),
        )
        for number, row in enumerate(reduced.layers)
        for part in row.parts
    }
    return Cache(table=reduced, parts=parts)
