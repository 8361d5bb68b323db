"""The ``cachegen`` codec: the paper's anchors and deltas, and as a labelled baseline what its published code does.

Liu et al., "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving" (SIGCOMM 2024).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.header import Header
from .cache_codec import CacheCodec, check_chunk_tokens, read_parameters, thread_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.canonical_json import JsonValue
    from ...formats.reader import ContainerReader
    from ...formats.tensors import TensorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache
    from .decoding import CacheRange, LayerRange

__all__ = ["CacheGenCodec", "CacheGenParams"]

_LEAST_LEVEL, _MOST_LEVEL = 50, 10_000


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
        default="auto",
        metadata={
            "help": "a file of tables made by `codec train cachegen`, 'auto' (a shipped one for the cache's model) or "
            "'none': tables of its own in the file"
        },
    )

    def __post_init__(self) -> None:
        if not _LEAST_LEVEL <= self.level <= _MOST_LEVEL:
            raise InvalidParameter(f"level={self.level} is not in {_LEAST_LEVEL}..{_MOST_LEVEL}")
        check_chunk_tokens(self.chunk_tokens)


class CacheGenCodec(CacheCodec):
    """Keys stay after RoPE, as the paper codes them. Decode setting: ``profile`` (a file)."""

    id: ClassVar[str] = "cachegen"
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
    chunk_types: ClassVar[frozenset[str]] = frozenset({"CGTB", "KVCG"})
    decode_settings: ClassVar[tuple[str, ...]] = ("profile",)
    checks: ClassVar[frozenset[str]] = frozenset({"weights"})

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
        from .cachegen_file import CHUNK, TABLE_CHUNK, encode_chunks
        from .cachegen_profiles import tables_for

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
            sink.write_chunk(TABLE_CHUNK, payload)
        ideal_bits = 0.0
        for place, data, bits in encode_chunks(cache, tables, params.chunk_tokens, thread_count(context)):
            sink.write_chunk(CHUNK, data, span=place)
            ideal_bits += bits
            context.report("encode", place[2], cache.table.tokens, unit="tokens")
        return {
            "ideal_bits_per_element": ideal_bits / cache.table.elements,
            "profile": "none" if sha256 is None else cache.table.model or sha256[:12],
        }

    def _details(self, header: Header) -> Mapping[str, JsonValue]:
        return {"variant": _variant(header), "profile": header.weights[0][:12] if header.weights else "none"}

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
        from .cachegen_file import decode_chunks

        _variant(source.header)
        table, chunk_tokens = read_parameters(source.header)
        return decode_chunks(
            source,
            table,
            wanted,
            result,
            chunk_tokens=chunk_tokens,
            profile=settings.get("profile"),
            whole=whole,
            at_once=at_once,
            threads=thread_count(context),
            context=context,
        )


def _variant(header: Header) -> str:
    variant = header.parameters.get("variant")
    if variant not in ("paper", "published-code"):
        raise CorruptFile(f"header: variant {variant!r} is unknown")
    return str(variant)
