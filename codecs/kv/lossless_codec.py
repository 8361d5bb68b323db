"""The ``kv-lossless`` codec: caches bit for bit, sign and exponent coded by groups of similar channels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.header import Header
from ..protocol import Selection
from .codec import cache_figures, describe_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...formats.canonical_json import JsonValue
    from ...formats.reader import ContainerReader
    from ...formats.tensors import TensorSink, TensorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .decoding import CacheRange, LayerRange
    from .streaming import CacheStream

__all__ = ["KVLosslessCodec", "KVLosslessParams"]

_CHUNK = "KVEX"


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLosslessParams:
    """Settings of the ``kv-lossless`` codec."""

    chunk_tokens: int = field(default=4096, metadata={"help": "tokens per independently readable chunk"})

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_tokens <= 1 << 20:
            raise InvalidParameter(f"chunk_tokens={self.chunk_tokens} is not in 1..{1 << 20}")


class KVLosslessCodec:
    """Any bits come back, NaN and infinities included; keys are not moved."""

    id: ClassVar[str] = "kv-lossless"
    kind: ClassVar[str] = "tensors"
    summary: ClassVar[str] = "LLM KV caches in fp16, bf16 or fp32, bit for bit"
    lossless: ClassVar[bool] = True
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = KVLosslessParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    default_preset: ClassVar[str] = "default"
    chunk_types: ClassVar[frozenset[str]] = frozenset({_CHUNK})
    axes: ClassVar[frozenset[str]] = frozenset({"layers", "tokens"})

    def encode(
        self,
        source: TensorSource,
        sink: ContainerWriter,
        params: KVLosslessParams,
        *,
        context: RunContext,
    ) -> Mapping[str, Figure]:
        """Write the cache, layer by layer within each chunk of tokens."""
        import numpy as np

        from .cache_tensors import cache_from_source
        from .exact_planes import encode_part

        cache = cache_from_source(source)
        table = cache.table
        sink.write_header(
            Header(
                codec=self.id,
                bitstream=self.bitstream_version,
                parameters={"cache": table.as_json(), "chunk_tokens": params.chunk_tokens},
            )
        )
        for layer, start, stop in _places(table, params.chunk_tokens):
            payload = bytearray()
            row = table.layers[layer]
            first, last = max(start - row.first_token, 0), stop - row.first_token
            for part in row.parts:
                data = cache.parts[layer, part.role].data[:, first:last]
                bits = data.view(np.uint32 if part.dtype == "F32" else np.uint16)
                # [heads, tokens, width] -> [channels, tokens]
                by_channel = np.ascontiguousarray(bits.swapaxes(1, 2)).reshape(part.channels, -1)
                payload += encode_part(by_channel, part.dtype)
            sink.write_chunk(_CHUNK, payload, span=(layer, start, stop))
            context.report("encode", stop, table.tokens, unit="tokens")
        return {}

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        from .cache import CacheTable

        table = CacheTable.from_json(header.parameters["cache"])
        return {
            **cache_figures(header, output_bytes),
            "compression_ratio": table.size_bytes / output_bytes,
        }

    def decode(
        self,
        source: ContainerReader,
        sink: TensorSink,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Write the tensors of the cache, or of the selected ``layers`` and ``tokens``."""
        from .cache_tensors import write_cache

        cache = self.decode_cache(source, context=context, selection=selection)
        write_cache(cache, sink)
        return {"elements": cache.table.elements}

    def decode_cache(
        self, source: ContainerReader, *, context: RunContext, selection: Selection | None = None
    ) -> Cache:
        """The cache itself."""
        return self.stream_cache(source, context=context, selection=selection).finish()

    def stream_cache(
        self, source: ContainerReader, *, context: RunContext, selection: Selection | None = None
    ) -> CacheStream:
        """The same, layer by layer while the bytes arrive."""
        from .decoding import CacheRange, blank_cache
        from .streaming import CacheStream

        table, chunk_tokens = _parameters(source.header)
        chosen = selection or Selection()
        if chosen.settings:
            raise InvalidParameter(f"decode setting {next(iter(chosen.settings))!r} is unknown; kv-lossless has none")
        wanted = CacheRange(
            layers=chosen.range_of("layers", len(table.layers)),
            tokens=chosen.range_of("tokens", table.tokens),
        )
        result = blank_cache(table, wanted, context)
        payloads = (
            _some(source, table, chunk_tokens, wanted.layers, wanted.tokens)
            if chosen.ranges
            else _all(source, table, chunk_tokens)
        )
        return CacheStream(result, _stored(payloads, table, wanted, result, context))

    def open(self, source: ContainerReader, *, context: RunContext) -> _View:
        """A view with ``read(layers=(a, b), tokens=(c, d))``."""
        return _View(self, source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        table, chunk_tokens = _parameters(header)
        return {**describe_table(table), "chunk_tokens": chunk_tokens}


class _View:
    """Random access to a lossless cache file."""

    def __init__(self, codec: KVLosslessCodec, source: ContainerReader, context: RunContext) -> None:
        self._codec = codec
        self._source = source
        self._context = context
        self.table: CacheTable = _parameters(source.header)[0]

    def read(
        self,
        *,
        layers: tuple[int, int | None] = (0, None),
        tokens: tuple[int, int | None] = (0, None),
    ) -> Cache:
        """The cache of a range of layers and tokens; only the chunks it needs are read."""
        selection = Selection(ranges={"layers": layers, "tokens": tokens})
        return self._codec.decode_cache(self._source, context=self._context, selection=selection)


def _parameters(header: Header) -> tuple[CacheTable, int]:
    from .cache import CacheTable

    chunk_tokens = header.parameters.get("chunk_tokens")
    if not isinstance(chunk_tokens, int) or not 1 <= chunk_tokens <= 1 << 20:
        raise CorruptFile(f"header: chunk_tokens {chunk_tokens!r} is out of range")
    return CacheTable.from_json(header.parameters.get("cache")), chunk_tokens


def _places(table: CacheTable, chunk_tokens: int) -> Iterator[tuple[int, int, int]]:
    """(layer, start, stop) of every chunk in file order."""
    for start in range(0, table.tokens, chunk_tokens):
        stop = min(start + chunk_tokens, table.tokens)
        for layer, row in enumerate(table.layers):
            if row.first_token < stop:
                yield layer, start, stop


def _all(source: ContainerReader, table: CacheTable, chunk_tokens: int) -> Iterator[tuple[int, int, int, bytes]]:
    places = _places(table, chunk_tokens)
    for chunk in source.chunks():
        if not chunk.type[0].isupper():
            continue
        place = next(places, None)
        if place is None or chunk.type != _CHUNK or chunk.span not in (None, place):
            raise CorruptFile(
                f"chunk {chunk.sequence} is {chunk.type} {chunk.span}, expected {_CHUNK} {place or 'no more'}"
            )
        yield *place, chunk.payload
    missing = next(places, None)
    if missing is not None:
        raise CorruptFile(f"the file ends before layer {missing[0]} of tokens {missing[1]} to {missing[2]}")


def _some(
    source: ContainerReader,
    table: CacheTable,
    chunk_tokens: int,
    layers: tuple[int, int],
    tokens: tuple[int, int],
) -> Iterator[tuple[int, int, int, bytes]]:
    by_span = {entry.span: entry for entry in source.index() if entry.type == _CHUNK}
    for place in _places(table, chunk_tokens):
        layer, start, stop = place
        if layers[0] <= layer < layers[1] and start < tokens[1] and stop > tokens[0]:
            if place not in by_span:
                raise CorruptFile(f"the index has no chunk of layer {layer}, tokens {start} to {stop}")
            yield *place, source.read(by_span[place])


def _stored(
    payloads: Iterator[tuple[int, int, int, bytes]],
    table: CacheTable,
    wanted: CacheRange,
    result: Cache,
    context: RunContext,
) -> Iterator[LayerRange]:
    """Decode every payload into ``result`` and say which range of it that was."""
    from .decoding import LayerRange

    threads = context.threads or len(os.sched_getaffinity(0))
    first = wanted.tokens[0]
    for layer, start, stop, data in payloads:
        _store(data, layer, start, stop, table, wanted.layers, wanted.tokens, result, threads)
        context.report("decode", stop, table.tokens, unit="tokens")
        begin = max(start, first, table.layers[layer].first_token)
        end = min(stop, wanted.tokens[1])
        if begin < end:
            yield LayerRange(layer=layer - wanted.layers[0], start=begin - first, stop=end - first)


def _store(
    data: bytes,
    layer: int,
    start: int,
    stop: int,
    table: CacheTable,
    layers: tuple[int, int],
    tokens: tuple[int, int],
    result: Cache,
    threads: int,
) -> None:
    from .exact_planes import decode_part

    row = table.layers[layer]
    begin = max(start, row.first_token)
    position = 0
    first, last = max(begin, tokens[0]), min(stop, tokens[1])
    for part in row.parts:
        bits, position = decode_part(data, position, part.channels, stop - begin, part.dtype, threads)
        if first >= last or not layers[0] <= layer < layers[1]:
            continue
        by_head = bits.reshape(part.heads, part.width, stop - begin).swapaxes(1, 2)
        target = result.parts[layer - layers[0], part.role].data
        place = first - tokens[0] - result.table.layers[layer - layers[0]].first_token
        kept = by_head[:, first - begin : last - begin]
        target.view(bits.dtype)[:, place : place + last - first] = kept
    if position != len(data):
        raise CorruptFile(f"layer {layer}: {len(data) - position} bytes left over after its parts")
