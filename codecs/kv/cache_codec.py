"""What the codecs of caches have in common: whole decodes, ranges, streams and views on one way to read chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...formats.errors import CorruptFile, InvalidParameter
from ..protocol import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.canonical_json import JsonValue
    from ...formats.header import Header
    from ...formats.reader import ContainerReader
    from ...formats.tensors import TensorSink
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .decoding import CacheRange, LayerRange
    from .streaming import CacheStream

__all__ = [
    "CacheCodec",
    "CacheView",
    "cache_figures",
    "check_chunk_tokens",
    "describe_table",
    "read_parameters",
    "thread_count",
]

_MAX_CHUNK_TOKENS = 1 << 20


class CacheCodec:
    """Base of the codecs whose files hold one cache, in chunks of tokens and within them layer by layer.

    ``decode_settings`` are the names of the settings that decoding takes.
    """

    id: ClassVar[str]
    kind: ClassVar[str] = "tensors"
    axes: ClassVar[frozenset[str]] = frozenset({"layers", "tokens"})
    decode_settings: ClassVar[tuple[str, ...]] = ()

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Bits per element, and how many times smaller than with 16 bits."""
        return cache_figures(header, output_bytes)

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
        self,
        source: ContainerReader,
        *,
        context: RunContext,
        selection: Selection | None = None,
        positions: NDArray[np.int64] | None = None,
    ) -> Cache:
        """The cache itself; ``positions`` [tokens] places its keys at any positions.

        Raises :class:`InvalidParameter` where the keys cannot be moved.
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

    def open(self, source: ContainerReader, *, context: RunContext) -> CacheView:
        """A :class:`CacheView`."""
        return CacheView(self, source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Model, layers, tokens, types and what the codec has to add."""
        table, chunk_tokens = read_parameters(header)
        return {**describe_table(table), **self._details(header), "chunk_tokens": chunk_tokens}

    def _details(self, header: Header) -> Mapping[str, JsonValue]:
        """What :meth:`describe` says beyond the table."""
        return {}

    def _placed(
        self,
        table: CacheTable,
        tokens: tuple[int, int],
        settings: Mapping[str, str],
        positions: NDArray[np.int64] | None,
    ) -> NDArray[np.int64] | None:
        """Where the keys of ``tokens`` shall stand; None where they were."""
        if positions is not None:
            raise InvalidParameter(f"{self.id} keeps keys after RoPE, which cannot be moved; use kv for that")
        return None

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
        """Fill ``result`` and yield the ranges of it that are final.

        With ``whole`` the file is read front to back, else through its index. ``at_once`` may wait for many layers,
        which keeps more threads busy.
        """
        raise NotImplementedError

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

        from .decoding import CacheRange, blank_cache
        from .streaming import CacheStream

        table, _ = read_parameters(source.header)
        chosen = selection or Selection()
        unknown = [name for name in chosen.settings if name not in self.decode_settings]
        if unknown:
            known = ", ".join(self.decode_settings) or "none"
            raise InvalidParameter(f"decode setting {unknown[0]!r} is unknown to {self.id}; known: {known}")
        wanted = CacheRange(
            layers=chosen.range_of("layers", len(table.layers)),
            tokens=chosen.range_of("tokens", table.tokens),
        )
        positions = self._placed(table, wanted.tokens, chosen.settings, positions)
        result = blank_cache(table, wanted, context)
        if positions is not None:
            result = replace(result, table=replace(result.table, first_position=int(positions[0])))
        ranges = self._ranges(
            source,
            wanted,
            result,
            chosen.settings,
            positions,
            whole=not chosen.ranges,
            at_once=at_once,
            context=context,
        )
        return CacheStream(result, ranges)


class CacheView:
    """Random access: ``view.read(layers=(a, b), tokens=(c, d))`` reads only the chunks it needs."""

    def __init__(self, codec: CacheCodec, source: ContainerReader, context: RunContext) -> None:
        self._codec = codec
        self._source = source
        self._context = context
        self.table: CacheTable = read_parameters(source.header)[0]

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


def check_chunk_tokens(chunk_tokens: int) -> None:
    """Raise :class:`InvalidParameter` for a setting out of range."""
    if not 1 <= chunk_tokens <= _MAX_CHUNK_TOKENS:
        raise InvalidParameter(f"chunk_tokens={chunk_tokens} is not in 1..{_MAX_CHUNK_TOKENS}")


def read_parameters(header: Header) -> tuple[CacheTable, int]:
    """The cache table and the tokens of a chunk; raises :class:`CorruptFile`."""
    from .cache import CacheTable

    chunk_tokens = header.parameters.get("chunk_tokens")
    if not isinstance(chunk_tokens, int) or not 1 <= chunk_tokens <= _MAX_CHUNK_TOKENS:
        raise CorruptFile(f"header: chunk_tokens {chunk_tokens!r} is out of range")
    return CacheTable.from_json(header.parameters.get("cache")), chunk_tokens


def thread_count(context: RunContext) -> int:
    """The threads to use: the context's, or one for each usable core."""
    import os

    return context.threads or len(os.sched_getaffinity(0))


def cache_figures(header: Header, output_bytes: int) -> dict[str, Figure]:
    """Rates of a file that holds a cache, from all of its bytes."""
    from .cache import CacheTable

    table = CacheTable.from_json(header.parameters.get("cache"))
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
