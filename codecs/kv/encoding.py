"""Writing a cache: weights, then per token chunk and layer one payload of lanes."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.lane_threads import in_threads
from .blas_threads import one_blas_thread
from .closed_loop import ClosedLoop, blocks_of
from .part_loops import add_mean
from .part_reader import PartReader
from .quantisation import reconstruct
from .self_model import TRANSFORM_TOKENS, learn_model, write_model
from .sensitivity import default_sensitivity, token_weights
from .symbol_block import SymbolEncoder
from .symbols import fill_classes
from .waves import part_shapes, symbol_count, token_spans, waves_of_layers
from .weight_stream import encode_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .profile import Profile
    from .quantisation import Escapes

__all__ = ["LAYER_CHUNK", "MODEL_CHUNK", "WEIGHT_CHUNK", "encode_chunks", "prepare_model"]

MODEL_CHUNK = "MODL"
WEIGHT_CHUNK = "WGTS"
LAYER_CHUNK = "KVLB"


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

    def read_part(layer: int, part: int) -> NDArray[np.float32]:
        values = reader.read(layer, part, 0, table.tokens - table.layers[layer].first_token)
        return values.swapaxes(0, 1)

    learned = learn_model(
        table,
        read_part,
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
    coder = _LayerCoder(PartReader(cache), table, model, quality)
    ideal_bits = 0.0
    payload_bytes = weight_bytes = 0
    starts = range(0, table.tokens, chunk_tokens)
    with one_blas_thread():
        for first in range(0, len(starts), threads):
            group = [(start, min(table.tokens, start + chunk_tokens)) for start in starts[first : first + threads]]
            # a chunk for each thread where there are enough; else they share the blocks of one
            apart = len(group) == threads

            def encode(begin: int, end: int, group: Any = group, apart: bool = apart) -> list[_Encoded]:
                return [_encode_chunk(coder, weights, span, 1 if apart else threads) for span in group[begin:end]]

            singles = [(n, n + 1) for n in range(len(group))]
            for (_, stop), (found,) in zip(group, in_threads(encode, singles, threads if apart else 1), strict=True):
                for kind, span, payload, bits, decoded_size in found:
                    sink.write_chunk(kind, payload, span=span, decoded_size=decoded_size)
                    ideal_bits += bits
                    if kind == LAYER_CHUNK:
                        payload_bytes += len(payload)
                    else:
                        weight_bytes += len(payload)
                context.report("encode", stop, table.tokens, unit="tokens")
    return {
        "ideal_bits_per_element": ideal_bits / table.elements,
        "symbol_bits_per_element": 8 * payload_bytes / table.elements,
        "weight_bits_per_element": 8 * weight_bytes / table.elements,
    }


_Encoded = list[tuple[str, tuple[int, ...], bytes, float, int]]
"""Type, span, payload, ideal bits and decoded size of the chunks of a file."""


def _encode_chunk(coder: _LayerCoder, weights: list[NDArray[np.int8]], span: tuple[int, int], threads: int) -> _Encoded:
    """The chunks of the file that hold the tokens of ``span``."""
    start, stop = span
    chunk = _TokenChunk(coder, weights, start, stop)
    payload, bits = encode_weights(chunk.weights, coder.weights)
    result: _Encoded = [(WEIGHT_CHUNK, (start, stop), payload, bits, 0)]
    for layer, data, own_bits in chunk.encode(threads):
        result.append((LAYER_CHUNK, (layer, start, stop), data, own_bits, chunk.decoded_bytes(layer)))
    return result


class _LayerCoder:
    """What all token chunks share."""

    def __init__(self, reader: PartReader, table: CacheTable, model: Any, quality: int) -> None:
        self.reader = reader
        self.table = table
        self.model = model.model
        self.values = reconstruct(model.model.shifts)
        self.quality = quality
        self.weights = model.weights
        self.symbols = SymbolEncoder(model.tables)


class _TokenChunk:
    """Encodes the layers of one token chunk; ``weights`` are its token weights."""

    def __init__(self, coder: _LayerCoder, weights: list[NDArray[np.int8]], start: int, stop: int) -> None:
        self._coder = coder
        self._spans = token_spans(coder.table, start, stop)
        self.weights = [rows[:, a:b] for rows, (a, b) in zip(weights, self._spans, strict=True)]
        # of every block the tokens of every layer, counted from the layer's first
        self._blocks = [token_spans(coder.table, *block) for block in blocks_of(start, stop)]
        self._loops = [
            ClosedLoop(
                coder.model, coder.values, coder.quality, [w[:, a:b] for w, (a, b) in zip(weights, spans, strict=True)]
            )
            for spans in self._blocks
        ]

    def encode(self, threads: int) -> Iterator[tuple[int, bytes, float]]:
        """Every layer with its payload and ideal bits; the symbols of a bounded number of layers are held at once."""
        for layers in waves_of_layers(self._coder.table, self._spans):
            wave = [
                _Layer(layer, part_shapes(self._coder.table, layer, self._spans), len(self._blocks)) for layer in layers
            ]

            def encode_blocks(first: int, last: int, wave: list[_Layer] = wave) -> None:
                for block in range(first, last):
                    for layer in wave:
                        self._encode_block(block, layer)

            def encode_layers(first: int, last: int, wave: list[_Layer] = wave) -> list[tuple[int, bytes, float]]:
                return [(layer.number, *layer.finish(self._coder.symbols)) for layer in wave[first:last]]

            in_threads(encode_blocks, [(n, n + 1) for n in range(len(self._blocks))], threads)
            for found in in_threads(encode_layers, [(n, n + 1) for n in range(len(wave))], threads):
                yield from found

    def decoded_bytes(self, layer: int) -> int:
        """The size of the layer's part of the cache."""
        first, last = self._spans[layer]
        parts = self._coder.table.layers[layer].parts
        return (last - first) * sum(part.channels * (4 if part.dtype == "F32" else 2) for part in parts)

    def _encode_block(self, block: int, layer: _Layer) -> None:
        first, last = self._blocks[block][layer.number]
        if first == last:
            return
        coder, loop = self._coder, self._loops[block]
        offset = self._spans[layer.number][0]
        own = slice(first - offset, last - offset)
        for part, entries in enumerate(layer.parts):
            model = coder.model.parts[layer.number][part]
            _, heads, width = entries.shape
            classes = np.empty((last - first, heads, width), np.uint16)
            fill_classes(model.scales, self.weights[layer.number][:, own], coder.quality, classes)
            values = loop.buffer("values", heads, last - first, width)
            coder.reader.fill(layer.number, part, first, values)
            add_mean(values, -model.mean)
            layer.escapes[part][block] = loop.encode(
                layer.number, part, values, classes, coder.symbols.slots, entries[own]
            ).after(own.start * heads * width)


class _Layer:
    """The entries of a layer of a token chunk, which blocks fill, and their escapes."""

    def __init__(self, number: int, shapes: list[tuple[int, ...]], blocks: int) -> None:
        self.number = number
        self._entries = np.empty(symbol_count(shapes), np.uint16)
        edges = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        self.parts = [own.reshape(shape) for own, shape in zip(np.split(self._entries, edges), shapes, strict=True)]
        self.escapes: list[list[Escapes | None]] = [[None] * blocks for _ in shapes]

    def finish(self, encoder: SymbolEncoder) -> tuple[bytes, float]:
        """The payload and its ideal bits."""
        found = []
        first = 0
        for part, blocks in zip(self.parts, self.escapes, strict=True):
            found += [item.after(first) for item in blocks if item is not None]
            first += part.size
        payload, bits = encoder.encode(
            self._entries,
            [part.shape for part in self.parts],
            np.concatenate([item.places for item in found]),
            np.concatenate([item.symbols for item in found]),
        )
        return payload, bits + sum(item.costs for item in found)
