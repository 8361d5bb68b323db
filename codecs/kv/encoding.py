"""Writing a cache: weights, then per token chunk and layer one payload of lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .closed_loop import ClosedLoop
from .number_formats import check_finite, to_float32
from .rotary import unrotate
from .self_model import TRANSFORM_TOKENS, learn_model, write_model
from .sensitivity import default_sensitivity, token_weights
from .symbol_block import SymbolArray, encode_payloads
from .symbols import code_length_bits
from .weight_stream import encode_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache
    from .profile import Profile

__all__ = ["LAYER_CHUNK", "MODEL_CHUNK", "WEIGHT_CHUNK", "PartReader", "encode_chunks", "prepare_model"]

MODEL_CHUNK = "MODL"
WEIGHT_CHUNK = "WGTS"
LAYER_CHUNK = "KVLB"


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
        check_finite(values, f"layer {layer} {spec.role}")
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
    reader = PartReader(cache)
    chunks = -(-table.tokens // chunk_tokens)
    ideal_bits = 0.0
    payload_bytes = weight_bytes = 0
    for number in range(chunks):
        start, stop = number * chunk_tokens, min(table.tokens, (number + 1) * chunk_tokens)
        spans = [(max(start - row.first_token, 0), max(stop - row.first_token, 0)) for row in table.layers]
        own = [w[:, a:b] for w, (a, b) in zip(weights, spans, strict=True)]
        payload = encode_weights(own, model.weights)
        weight_bytes += len(payload)
        sink.write_chunk(WEIGHT_CHUNK, payload, span=(start, stop))
        loop = ClosedLoop(model.model, quality, own)
        for layer, (a, b) in enumerate(spans):
            if a == b:
                continue
            parts = [reader.read(layer, part, a, b) for part in range(len(table.layers[layer].parts))]
            symbols = loop.encode(layer, parts)
            classes = loop.classes(layer)
            arrays = [SymbolArray(classes=c, symbols=s) for c, s in zip(classes, symbols, strict=True)]
            ideal_bits += code_length_bits(symbols, classes, model.tables)
            block = encode_payloads([arrays], model.tables)[0]
            payload_bytes += len(block)
            sink.write_chunk(
                LAYER_CHUNK,
                block,
                span=(layer, start, stop),
                decoded_size=(b - a)
                * sum(p.channels * (4 if p.dtype == "F32" else 2) for p in table.layers[layer].parts),
            )
        context.report("encode", stop, table.tokens, unit="tokens")
    return {
        "ideal_bits_per_element": ideal_bits / table.elements,
        "symbol_bits_per_element": 8 * payload_bytes / table.elements,
        "weight_bits_per_element": 8 * weight_bytes / table.elements,
    }
