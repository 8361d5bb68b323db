"""The ``kv-stages`` codec: quantisers, residuals and selections of neighbouring papers, chosen and combined by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ....formats.errors import CorruptFile, InvalidParameter
from ....formats.header import Header
from ...protocol import Selection
from ..cache_codec import CacheCodec, describe_table, thread_count
from .plan import StagesParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ....formats.canonical_json import JsonValue
    from ....formats.reader import ContainerReader
    from ....formats.tensors import TensorSource
    from ....formats.writer import ContainerWriter
    from ...protocol import Figure
    from ...run_context import RunContext
    from ..cache import Cache, CacheTable
    from ..decoding import LayerRange
    from ..streaming import CacheStream

__all__ = ["KVStagesCodec"]

_CHUNK = "KVST"


class KVStagesCodec(CacheCodec):
    """See :class:`StagesParams` and ``docs/kv-stages.md``."""

    id: ClassVar[str] = "kv-stages"
    summary: ClassVar[str] = "LLM KV caches by the stages of published methods: KIVI, GEAR, MiKV, RazorAttention, EMS"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = StagesParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "kivi-2": {"bits": 2},
        "kivi-4": {"bits": 4},
        "gear-2": {"bits": 2, "residual": "gear"},
        "gear-4": {"bits": 4, "residual": "gear"},
        "mikv": {"precision": "mikv", "quantiser": "token", "bits": 2},
        "razor": {"selection": "razor", "quantiser": "none"},
        "ems": {"selection": "ems", "quantiser": "none"},
        "ems-gear-4": {"selection": "ems", "bits": 4, "residual": "gear"},
    }
    default_preset: ClassVar[str] = "kivi-4"
    chunk_types: ClassVar[frozenset[str]] = frozenset({_CHUNK})
    axes: ClassVar[frozenset[str]] = frozenset({"layers"})

    def encode(
        self, source: TensorSource, sink: ContainerWriter, params: StagesParams, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Write the cache, layer by layer; every value must be finite."""
        from ..cache_tensors import cache_from_source
        from .encoding import LayerEncoder

        cache = cache_from_source(source)
        table = cache.table
        encoder = LayerEncoder(cache, params)
        sink.write_header(
            Header(
                codec=self.id,
                bitstream=self.bitstream_version,
                parameters={"cache": table.as_json(), "slots": encoder.slots, "stages": params.as_json()},
            )
        )
        for layer in range(len(table.layers)):
            sink.write_chunk(_CHUNK, encoder.encode(layer), span=(layer, 0, table.tokens))
            context.report("encode", layer + 1, len(table.layers), unit="layers")
        return {"stages": params.stages, "slots": encoder.slots}

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        table, plan, slots = _parameters(header)
        return {
            **describe_table(table),
            "stages": plan.stages,
            "slots": slots,
            "bits": plan.bits,
            "window": plan.window,
        }

    def _stream(
        self,
        source: ContainerReader,
        context: RunContext,
        selection: Selection | None,
        positions: NDArray[np.int64] | None,
        *,
        at_once: bool,
    ) -> CacheStream:
        """With a selection stage the tokens of the cache are slots, described by ``cache.slots``."""
        from ..streaming import CacheStream

        table, plan, slots = _parameters(source.header)
        chosen = selection or Selection()
        if chosen.settings:
            raise InvalidParameter(f"decode setting {next(iter(chosen.settings))!r} is unknown; {self.id} has none")
        if chosen.range_of("tokens", table.tokens) != (0, table.tokens):
            raise InvalidParameter(f"{self.id} codes layers whole; choose layers, and cut tokens from the result")
        self._placed(table, (0, table.tokens), {}, positions)
        layers = chosen.range_of("layers", len(table.layers))
        result = _blank(table, plan, layers, slots, context)
        return CacheStream(result, _decoded(source, table, plan, layers, bool(chosen.ranges), result, context))


def _parameters(header: Header) -> tuple[CacheTable, StagesParams, int]:
    from ..cache import CacheTable

    values = header.parameters
    table, plan = CacheTable.from_json(values.get("cache")), StagesParams.from_json(values.get("stages"))
    slots = values.get("slots")
    if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= table.tokens:
        raise CorruptFile(f"header: {slots!r} slots for {table.tokens} tokens")
    if plan.selection == "none" and slots != table.tokens:
        raise CorruptFile(f"header: {slots} slots without a selection of the {table.tokens} tokens")
    return table, plan, slots


def _blank(table: CacheTable, plan: StagesParams, layers: tuple[int, int], slots: int, context: RunContext) -> Cache:
    """An empty cache for ``layers``; its tokens are slots where a selection stage has chosen."""
    from ..cache import CacheSlots
    from ..decoding import CacheRange, blank_cache

    if plan.selection == "none":
        return blank_cache(table, CacheRange(layers=layers, tokens=(0, table.tokens)), context)
    padded = replace(table, tokens=slots, layers=tuple(replace(row, first_token=0) for row in table.layers))
    cache = blank_cache(padded, CacheRange(layers=layers, tokens=(0, slots)), context)
    return replace(cache, slots=CacheSlots.blank(cache.table, table.first_position + table.tokens))


def _decoded(
    source: ContainerReader,
    table: CacheTable,
    plan: StagesParams,
    layers: tuple[int, int],
    some: bool,
    result: Cache,
    context: RunContext,
) -> Iterator[LayerRange]:
    from ..decoding import LayerRange
    from .decoding import store_layer

    threads = thread_count(context)
    payloads = _some(source, table, layers) if some else _all(source, table)
    for layer, payload in payloads:
        number = layer - layers[0]
        store_layer(payload, plan, table, layer, number, result, threads)
        context.report("decode", number + 1, layers[1] - layers[0], unit="layers")
        yield LayerRange(layer=number, start=result.table.layers[number].first_token, stop=result.table.tokens)


def _all(source: ContainerReader, table: CacheTable) -> Iterator[tuple[int, bytes]]:
    """The payload of every layer, in the only order they may have."""
    layer = 0
    for chunk in source.chunks():
        if not chunk.type[0].isupper():
            continue
        if chunk.type != _CHUNK or layer >= len(table.layers) or chunk.span not in (None, (layer, 0, table.tokens)):
            raise CorruptFile(
                f"chunk {chunk.sequence} is {chunk.type} {chunk.span}, expected {_CHUNK} of layer {layer}"
            )
        yield layer, chunk.payload
        layer += 1
    if layer < len(table.layers):
        raise CorruptFile(f"the file ends before layer {layer}")


def _some(source: ContainerReader, table: CacheTable, layers: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
    by_span = {entry.span: entry for entry in source.index() if entry.type == _CHUNK}
    for layer in range(*layers):
        span = (layer, 0, table.tokens)
        if span not in by_span:
            raise CorruptFile(f"the index has no chunk of layer {layer}")
        yield layer, source.read(by_span[span])
