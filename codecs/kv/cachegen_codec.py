"""The ``cachegen`` codec: the paper's anchors and deltas, and as a labelled baseline what its published code does.

Liu et al., "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving" (SIGCOMM 2024).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.header import Header
from ..protocol import Selection
from .codec import cache_figures, describe_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.canonical_json import JsonValue
    from ...formats.reader import ContainerReader
    from ...formats.tensors import TensorSink, TensorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .streaming import CacheStream

__all__ = ["CacheGenCodec", "CacheGenParams"]

_CHUNK = "KVCG"
_PERMILLE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGenParams:
    """Settings of the ``cachegen`` codec."""

    variant: Literal["paper", "published-code"] = field(
        default="paper",
        metadata={"help": "anchors and deltas, or per-token maxima as the published code has them"},
    )
    level: int = field(
        default=300,
        metadata={"help": "paper: delta bins in thousandths of the paper's 0.5, 1 and 1.5 standard deviations"},
    )
    bins: Literal[1, 2, 3] = field(default=2, metadata={"help": "published-code: its quality level, 3 the finest"})
    chunk_tokens: int = field(default=1500, metadata={"help": "tokens per independently readable chunk"})
    profile: str = field(
        default="none",
        metadata={"help": "a file of tables made by `codec train cachegen`, or 'none': tables of its own in the file"},
    )

    def __post_init__(self) -> None:
        if not 10 <= self.level <= 10 * _PERMILLE:
            raise InvalidParameter(f"level={self.level} is not in 10..{10 * _PERMILLE}")
        if not 1 <= self.chunk_tokens <= 1 << 20:
            raise InvalidParameter(f"chunk_tokens={self.chunk_tokens} is not in 1..{1 << 20}")


class CacheGenCodec:
    """Keys stay after RoPE, as the paper codes them."""

    id: ClassVar[str] = "cachegen"
    kind: ClassVar[str] = "tensors"
    summary: ClassVar[str] = "LLM KV caches as CacheGen codes them: anchors, deltas, tables per channel"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = CacheGenParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "high": {"level": 150},
        "medium": {"level": 300},
        "low": {"level": 500},
        "published-code-2": {"variant": "published-code", "bins": 2},
        "published-code-3": {"variant": "published-code", "bins": 3},
    }
    default_preset: ClassVar[str] = "medium"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"CGTB", _CHUNK})
    axes: ClassVar[frozenset[str]] = frozenset({"layers", "tokens"})

    def encode(
        self,
        source: TensorSource,
        sink: ContainerWriter,
        params: CacheGenParams,
        *,
        context: RunContext,
    ) -> Mapping[str, Figure]:
        """Write the cache; every value must be finite."""
        from .cache_tensors import cache_from_source
        from .cachegen_chunks import encode_chunk, places, tables_for

        cache = cache_from_source(source)
        tables, payload, sha256 = tables_for(cache, params.variant, params.level, params.bins, params.profile)
        sink.write_header(
            Header(
                codec=self.id,
                bitstream=self.bitstream_version,
                parameters={
                    "cache": cache.table.as_json(),
                    "chunk_tokens": params.chunk_tokens,
                    "level": params.level,
                    "variant": params.variant,
                },
                weights=() if sha256 is None else (sha256,),
            )
        )
        if payload is not None:
            sink.write_chunk("CGTB", payload)
        for layer, start, stop in places(cache.table, params.chunk_tokens):
            data = encode_chunk(cache, tables, layer, start, stop)
            sink.write_chunk(_CHUNK, data, span=(layer, start, stop))
            context.report("encode", stop, cache.table.tokens, unit="tokens")
        return {}

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        return cache_figures(header, output_bytes)

    def decode(
        self,
        source: ContainerReader,
        sink: TensorSink,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Write the tensors of the cache, or of the selected ``layers`` and ``tokens``; setting: ``profile``."""
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
        from .cachegen_chunks import decode_chunks
        from .decoding import CacheRange, blank_cache
        from .streaming import CacheStream

        table, chunk_tokens = _parameters(source.header)
        chosen = selection or Selection()
        settings = dict(chosen.settings)
        path = settings.pop("profile", None)
        if settings:
            raise InvalidParameter(f"decode setting {next(iter(settings))!r} is unknown; known: profile")
        wanted = CacheRange(
            layers=chosen.range_of("layers", len(table.layers)),
            tokens=chosen.range_of("tokens", table.tokens),
        )
        result = blank_cache(table, wanted, context)
        ranges = decode_chunks(
            source,
            table,
            wanted,
            result,
            chunk_tokens=chunk_tokens,
            profile=path,
            whole=not chosen.ranges,
            threads=context.threads or len(os.sched_getaffinity(0)),
            context=context,
        )
        return CacheStream(result, ranges)

    def open(self, source: ContainerReader, *, context: RunContext) -> Any:
        """A view with ``read(layers=(a, b), tokens=(c, d))``."""
        return _View(self, source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        table, chunk_tokens = _parameters(header)
        return {
            **describe_table(table),
            "variant": header.parameters["variant"],
            "chunk_tokens": chunk_tokens,
            "profile": header.weights[0][:12] if header.weights else "none",
        }


class _View:
    """Random access to a CacheGen file."""

    def __init__(self, codec: CacheGenCodec, source: ContainerReader, context: RunContext) -> None:
        self._codec = codec
        self._source = source
        self._context = context
        self.table: CacheTable = _parameters(source.header)[0]

    def read(
        self,
        *,
        layers: tuple[int, int | None] = (0, None),
        tokens: tuple[int, int | None] = (0, None),
        settings: Mapping[str, str] | None = None,
    ) -> Cache:
        """The cache of a range of layers and tokens; only the chunks it needs are read."""
        selection = Selection(ranges={"layers": layers, "tokens": tokens}, settings=settings or {})
        return self._codec.decode_cache(self._source, context=self._context, selection=selection)


def _parameters(header: Header) -> tuple[CacheTable, int]:
    from .cache import CacheTable

    values = header.parameters
    chunk_tokens = values.get("chunk_tokens")
    if not isinstance(chunk_tokens, int) or not 1 <= chunk_tokens <= 1 << 20:
        raise CorruptFile(f"header: chunk_tokens {chunk_tokens!r} is out of range")
    if values.get("variant") not in ("paper", "published-code"):
        raise CorruptFile(f"header: variant {values.get('variant')!r} is unknown")
    return CacheTable.from_json(values.get("cache")), chunk_tokens
