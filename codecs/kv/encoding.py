"""Writing a cache: weights, then per token chunk and layer one payload of lanes."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .blas_threads import one_blas_thread
from .closed_loop import ClosedLoop, blocks_of
from .number_formats import check_finite, to_float32
from .rotary import unrotate
from .self_model import TRANSFORM_TOKENS, learn_model, write_model
from .sensitivity import default_sensitivity, token_weights
from .symbol_block import SymbolEncoder
from .symbols import fill_classes
from .weight_stream import encode_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .profile import Profile

__all__ = ["LAYER_CHUNK", "MODEL_CHUNK", "WEIGHT_CHUNK", "PartReader", "encode_chunks", "prepare_model"]

MODEL_CHUNK = "MODL"
WEIGHT_CHUNK = "WGTS"
LAYER_CHUNK = "KVLB"
_LAYERS_AHEAD = 4


class PartReader:
    """Parts of a cache in float32 before RoPE, checked for values that are not finite."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self, layer: int, part: int, start: int, stop: int) -> NDArray[np.float32]:
        """float32 [tokens, heads, width] of tokens ``start`` to ``stop`` of the layer's own."""
        table = self._cache.table
        row = table.layers[layer]
        spec = row.parts[part]
        tensor = self._cache.parts[layer, spec.role]
        piece = type(tensor)(dtype=tensor.dtype, data=tensor.data[:, start:stop])
        values = to_float32(piece)
        check_finite(values, f"layer {layer} {spec.role}", first_token=row.first_token + start)
        if table.rotary is not None and spec.rotated:
            first = table.first_position + row.first_token
            values = unrotate(values, table.rotary, np.arange(first + start, first + stop))
        return np.ascontiguousarray(values.swapaxes(0, 1))


def prepare_model(
    cache: Cache, profile: Profile | None, quality: int, transform: bool | None
) -> tuple[Any, list[NDArray[np.int8]], bytes | None]:
    """A :class:`Profile` or a :class:`SelfModel` to code with, token weights, and a model payload to store."""
    table = cache.table
    if profile is not None:
        return profile, token_weights(table, profile.sensitivity, cache.attention_mass), None
    heads = sum(layer.parts[0].heads for layer in table.layers)
    weights = token_weights(table, default_sensitivity(heads), cache.attention_mass)
    reader = PartReader(cache)
    learned = learn_model(
        table,
        lambda layer, part: reader.read(layer, part, 0, table.tokens - table.layers[layer].first_token),
        weights,
        quality,
        transform=table.tokens >= TRANSFORM_TOKENS if transform is None else transform,
    )
    return learned, weights, write_model(learned)


def encode_chunks(
    cache: Cache,
    model: Any,
    weights: list[NDArray[np.int8]],
    sink: ContainerWriter,
    *,
    quality: int,
    chunk_tokens: int,
    context: RunContext,
) -> dict[str, Figure]:
    """Write every token chunk of ``cache``; return figures."""
    table = cache.table
    threads = context.threads or len(os.sched_getaffinity(0))
    reader = PartReader(cache)
    encoder = SymbolEncoder(model.tables)
    ideal_bits = 0.0
    payload_bytes = weight_bytes = 0
    with ThreadPoolExecutor(threads) as pool, one_blas_thread():
        for start in range(0, table.tokens, chunk_tokens):
            stop = min(table.tokens, start + chunk_tokens)
            chunk = _TokenChunk(reader, table, model, weights, quality, start, stop)
            payload, bits = encode_weights(chunk.weights, model.weights)
            weight_bytes += len(payload)
            ideal_bits += bits
            sink.write_chunk(WEIGHT_CHUNK, payload, span=(start, stop))
            for layer, future in chunk.encode(pool, encoder):
                payload, bits = future.result()
                payload_bytes += len(payload)
                ideal_bits += bits
                decoded_size = chunk.decoded_bytes(layer)
                sink.write_chunk(LAYER_CHUNK, payload, span=(layer, start, stop), decoded_size=decoded_size)
            context.report("encode", stop, table.tokens, unit="tokens")
    return {
        "ideal_bits_per_element": ideal_bits / table.elements,
        "symbol_bits_per_element": 8 * payload_bytes / table.elements,
        "weight_bits_per_element": 8 * weight_bytes / table.elements,
    }


class _TokenChunk:
    """Encodes the layers of one token chunk; ``weights`` are its token weights."""

    def __init__(
        self,
        reader: PartReader,
        table: CacheTable,
        model: Any,
        weights: list[NDArray[np.int8]],
        quality: int,
        start: int,
        stop: int,
    ) -> None:
        self._reader = reader
        self._table = table
        self._model = model
        self._quality = quality
        self._spans = _spans(table, start, stop)
        self.weights = [rows[:, a:b] for rows, (a, b) in zip(weights, self._spans, strict=True)]
        # of every block the tokens of every layer, counted from the layer's first
        self._blocks = [_spans(table, *block) for block in blocks_of(start, stop)]
        self._loops = [
            ClosedLoop(model.model, quality, [w[:, a:b] for w, (a, b) in zip(weights, spans, strict=True)])
            for spans in self._blocks
        ]

    def encode(self, pool: ThreadPoolExecutor, encoder: SymbolEncoder) -> Iterator[tuple[int, Future[Any]]]:
        """Every layer with a future of its payload and ideal bits; at most a few layers are held at once."""
        waiting: deque[tuple[int, Future[Any]]] = deque()
        for layer, (first, last) in enumerate(self._spans):
            if first == last:
                continue
            shapes = [(last - first, part.heads, part.width) for part in self._table.layers[layer].parts]
            classes = [np.empty(shape, np.uint16) for shape in shapes]
            symbols = [np.empty(shape, np.int32) for shape in shapes]
            jobs = [
                pool.submit(self._encode_block, block, layer, classes, symbols)
                for block in range(len(self._blocks))
                if self._blocks[block][layer][0] < self._blocks[block][layer][1]
            ]
            for job in jobs:
                job.result()
            waiting.append((layer, pool.submit(encoder.encode, symbols, classes)))
            if len(waiting) > _LAYERS_AHEAD:
                yield waiting.popleft()
        yield from waiting

    def decoded_bytes(self, layer: int) -> int:
        """The size of the layer's part of the cache."""
        first, last = self._spans[layer]
        parts = self._table.layers[layer].parts
        return (last - first) * sum(part.channels * (4 if part.dtype == "F32" else 2) for part in parts)

    def _encode_block(
        self, block: int, layer: int, classes: list[NDArray[np.uint16]], symbols: list[NDArray[np.int32]]
    ) -> None:
        first, last = self._blocks[block][layer]
        own = slice(first - self._spans[layer][0], last - self._spans[layer][0])
        for part, numbers in zip(self._model.model.parts[layer], classes, strict=True):
            fill_classes(part.scales, self.weights[layer][:, own], self._quality, numbers[own])
        parts = [self._reader.read(layer, part, first, last) for part in range(len(classes))]
        self._loops[block].encode(layer, parts, [c[own] for c in classes], [s[own] for s in symbols])


def _spans(table: CacheTable, start: int, stop: int) -> list[tuple[int, int]]:
    return [(max(start - row.first_token, 0), max(stop - row.first_token, 0)) for row in table.layers]
