"""The ``kv`` codec: KV caches by prediction across layers, decorrelating transforms and steps by importance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.header import Header
from ..protocol import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.canonical_json import JsonValue
    from ...formats.reader import ContainerReader
    from ...formats.tensors import TensorSink, TensorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .streaming import CacheStream

__all__ = ["CacheView", "KVCodec", "KVParams", "cache_figures", "describe_table"]

_MAX_QUALITY = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class KVParams:
    """Settings of the ``kv`` codec."""

    quality: int = field(default=66, metadata={"help": "fineness of the steps; 6 more halve them (0 to 120)"})
    profile: str = field(
        default="auto",
        metadata={
            "help": "a profile file, 'auto' (a shipped one for the cache's model) or 'none' (learn from the cache)"
        },
    )
    chunk_tokens: int = field(default=512, metadata={"help": "tokens per independently readable chunk"})
    transform: Literal["auto", "heads", "none"] = field(
        default="auto",
        metadata={"help": "without a profile: decorrelate the channels of each head, or not"},
    )

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= _MAX_QUALITY:
            raise InvalidParameter(f"quality={self.quality} is not in 0..{_MAX_QUALITY}")
        if not 1 <= self.chunk_tokens <= 1 << 20:
            raise InvalidParameter(f"chunk_tokens={self.chunk_tokens} is not in 1..{1 << 20}")
        if not self.profile:
            raise InvalidParameter("profile is empty; give a file, 'auto' or 'none'")


class KVCodec:
    """See :class:`KVParams` and ``docs/kv.md``."""

    id: ClassVar[str] = "kv"
    kind: ClassVar[str] = "tensors"
    summary: ClassVar[str] = "LLM KV caches, predicted across layers, quantised by what errors cost"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = KVParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"quality": 58},
        "balanced": {"quality": 66},
        "high": {"quality": 76},
    }
    default_preset: ClassVar[str] = "balanced"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"MODL", "WGTS", "KVLB"})
    axes: ClassVar[frozenset[str]] = frozenset({"layers", "tokens"})
    checks: ClassVar[frozenset[str]] = frozenset({"weights"})

    def encode(
        self, source: TensorSource, sink: ContainerWriter, params: KVParams, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Write the cache; every value must be finite."""
        from .cache_tensors import cache_from_source
        from .encoding import MODEL_CHUNK, encode_chunks, prepare_model
        from .profile_lookup import find_profile

        cache = cache_from_source(source)
        profile = find_profile(params.profile, cache.table)
        transform = None if params.transform == "auto" else params.transform == "heads"
        model, weights, payload = prepare_model(cache, profile, params.quality, transform)
        sink.write_header(
            Header(
                codec=self.id,
                bitstream=self.bitstream_version,
                parameters={
                    "cache": cache.table.as_json(),
                    "chunk_tokens": params.chunk_tokens,
                    "quality": params.quality,
                },
                weights=() if profile is None else (profile.sha256,),
            )
        )
        if payload is not None:
            sink.write_chunk(MODEL_CHUNK, payload)
        figures = encode_chunks(
            cache,
            model,
            weights,
            sink,
            quality=params.quality,
            chunk_tokens=params.chunk_tokens,
            context=context,
        )
        figures["profile"] = "none" if profile is None else profile.table.model or profile.sha256[:12]
        return figures

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
        """Write the tensors of the cache, or of the selected ``layers`` and ``tokens``.

        Settings: ``profile`` (a file), ``first_position`` (where the first decoded token shall stand).
        """
        from .cache_tensors import write_cache

        cache = self.decode_cache(source, context=context, selection=selection)
        write_cache(cache, sink)
        return {"elements": cache.table.elements}

    def decode_cache(
        self,
        source: ContainerReader,
        *,
        context: RunContext,
        selection: Selection | None = None,
        positions: NDArray[np.int64] | None = None,
    ) -> Cache:
        """The cache itself; ``positions`` [tokens] places its keys at any positions.

        Raises :class:`InvalidParameter` where the keys cannot be moved because the file knows no rotary embedding.
        """
        return self._stream(source, context, selection, positions, at_once=True).finish()

    def stream_cache(
        self,
        source: ContainerReader,
        *,
        context: RunContext,
        selection: Selection | None = None,
        positions: NDArray[np.int64] | None = None,
    ) -> CacheStream:
        """The same, layer by layer while the bytes arrive."""
        return self._stream(source, context, selection, positions, at_once=False)

    def _stream(
        self,
        source: ContainerReader,
        context: RunContext,
        selection: Selection | None,
        positions: NDArray[np.int64] | None,
        *,
        at_once: bool,
    ) -> CacheStream:
        from dataclasses import replace

        from .decoding import CacheRange, blank_cache, decode_layers
        from .profile_lookup import profile_for_file
        from .streaming import CacheStream

        table, quality, chunk_tokens = _parameters(source.header)
        chosen = selection or Selection()
        settings = dict(chosen.settings)
        path = settings.pop("profile", None)
        first = settings.pop("first_position", None)
        if settings:
            raise InvalidParameter(
                f"decode setting {next(iter(settings))!r} is unknown; known: profile, first_position"
            )
        wanted = CacheRange(
            layers=chosen.range_of("layers", len(table.layers)),
            tokens=chosen.range_of("tokens", table.tokens),
        )
        positions = _new_positions(table, wanted.tokens, first, positions)
        hashes = source.header.weights
        profile = profile_for_file(hashes[0], path) if hashes else None
        if profile is not None:
            profile.check_fits(table)
        cache = blank_cache(table, wanted, context)
        if positions is not None:
            cache = replace(cache, table=replace(cache.table, first_position=int(positions[0])))
        ranges = decode_layers(
            source,
            table,
            wanted,
            cache,
            profile=profile,
            quality=quality,
            chunk_tokens=chunk_tokens,
            positions=positions,
            whole=not chosen.ranges,
            at_once=at_once,
            context=context,
        )
        return CacheStream(cache, ranges)

    def open(self, source: ContainerReader, *, context: RunContext) -> CacheView:
        """A :class:`CacheView`."""
        return CacheView(self, source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        table, quality, chunk_tokens = _parameters(header)
        return {
            **describe_table(table),
            "quality": quality,
            "chunk_tokens": chunk_tokens,
            "profile": header.weights[0][:12] if header.weights else "none",
        }


class CacheView:
    """Random access: ``view.read(layers=(a, b), tokens=(c, d))`` reads only the chunks it needs."""

    def __init__(self, codec: KVCodec, source: ContainerReader, context: RunContext) -> None:
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
        """The cache of a range of layers and tokens."""
        selection = Selection(ranges={"layers": layers, "tokens": tokens}, settings=settings or {})
        return self._codec.decode_cache(self._source, context=self._context, selection=selection)


def cache_figures(header: Header, output_bytes: int) -> dict[str, Figure]:
    """Rates of a file that holds a cache, from all of its bytes."""
    from .cache import CacheTable

    table = CacheTable.from_json(header.parameters["cache"])
    return {
        "bits_per_element": 8 * output_bytes / table.elements,
        "ratio_to_16_bit": 2 * table.elements / output_bytes,
    }


def describe_table(table: CacheTable) -> dict[str, JsonValue]:
    """What a person wants to know about a cache."""
    first = table.layers[0]
    alike = all(layer == first for layer in table.layers)
    parts = ", ".join(f"{p.role} {p.heads}x{p.width} {p.dtype}" for p in first.parts)
    return {
        "model": table.model or "unknown",
        "layers": len(table.layers),
        "tokens": table.tokens,
        "parts": parts if alike else f"{parts} (layer 0; layers differ)",
        "rope": "none" if table.rotary is None else table.rotary.style,
        "first_position": table.first_position,
    }


def _new_positions(
    table: CacheTable, tokens: tuple[int, int], first: str | None, positions: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    """Where the keys of ``tokens`` shall stand, int64 [tokens]; None where they were."""
    import numpy as np

    count = tokens[1] - tokens[0]
    if first is not None:
        if not first.isdecimal():
            raise InvalidParameter(f"first_position={first} is not a whole number")
        positions = np.arange(int(first), int(first) + count)
    if positions is None:
        return None
    positions = np.asarray(positions, np.int64)
    if table.rotary is None:
        raise InvalidParameter("the file knows no rotary embedding, so its keys cannot be moved")
    if positions.shape != (count,) or int(positions.min()) < 0:
        raise InvalidParameter(f"positions must be {count} numbers from 0 on, one per token")
    return positions


def _parameters(header: Header) -> tuple[CacheTable, int, int]:
    from .cache import CacheTable

    values = header.parameters
    quality, chunk_tokens = values.get("quality"), values.get("chunk_tokens")
    if not isinstance(quality, int) or not 0 <= quality <= _MAX_QUALITY:
        raise CorruptFile(f"header: quality {quality!r} is not in 0..{_MAX_QUALITY}")
    if not isinstance(chunk_tokens, int) or not 1 <= chunk_tokens <= 1 << 20:
        raise CorruptFile(f"header: chunk_tokens {chunk_tokens!r} is out of range")
    return CacheTable.from_json(values.get("cache")), quality, chunk_tokens
