"""The ``kv-lossless`` codec: caches bit for bit, sign and exponent coded by groups of similar channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ...formats.errors import CorruptFile
from ...formats.header import Header
from .cache_codec import CacheCodec, check_chunk_tokens, read_parameters, thread_count
from .layer_chunks import LayerChunks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.reader import ContainerReader
    from ...formats.tensors import TensorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .decoding import CacheRange, LayerRange

__all__ = ["KVLosslessCodec", "KVLosslessParams"]

_CHUNK = "KVEX"


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLosslessParams:
    """Settings of the ``kv-lossless`` codec."""

    chunk_tokens: int = field(default=1024, metadata={"help": "tokens per independently readable chunk"})

    def __post_init__(self) -> None:
        check_chunk_tokens(self.chunk_tokens)


class KVLosslessCodec(CacheCodec):
    """Any bits come back, NaN and infinities included; keys are not moved."""

    id: ClassVar[str] = "kv-lossless"
    summary: ClassVar[str] = "LLM KV caches in fp16, bf16 or fp32, bit for bit"
    lossless: ClassVar[bool] = True
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = KVLosslessParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    default_preset: ClassVar[str] = "default"
    chunk_types: ClassVar[frozenset[str]] = frozenset({_CHUNK})

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
        for layer, start, stop in LayerChunks(table, params.chunk_tokens, _CHUNK).places():
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
        """Also the ratio to the cache's own size."""
        table, _ = read_parameters(header)
        ratio = table.size_bytes / output_bytes
        return {**super().rate_figures(header, output_bytes), "compression_ratio": ratio}

    def _ranges(
        self,
        source: ContainerReader,
        wanted: CacheRange,
        result: Cache,
        settings: Mapping[str, str],
        positions: NDArray[np.int64] | None,
        *,
        whole: bool,
        at_once: bool,
        context: RunContext,
    ) -> Iterator[LayerRange]:
        from .decoding import LayerRange

        table, chunk_tokens = read_parameters(source.header)
        threads = thread_count(context)
        first = wanted.tokens[0]
        for place, data in LayerChunks(table, chunk_tokens, _CHUNK).read(source, wanted, whole=whole):
            if place is None:
                continue
            layer, start, stop = place
            _store(data, layer, start, stop, table, wanted.layers, wanted.tokens, result, threads)
            context.report("decode", stop, table.tokens, unit="tokens")
            begin = max(start, first, table.layers[layer].first_token)
            end = min(stop, wanted.tokens[1])
            if begin < end and wanted.layers[0] <= layer < wanted.layers[1]:
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
