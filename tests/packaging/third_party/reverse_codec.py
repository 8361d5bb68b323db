"""A third-party codec as small as one can be: it stores bytes in blocks, each reversed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from codeckit import InvalidParameter, RunContext, Selection
from codeckit.codecs.protocol import Figure
from codeckit.formats.header import Header
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseParams:
    block_bytes: int = field(default=64, metadata={"help": "bytes in a block"})

    def __post_init__(self) -> None:
        if self.block_bytes < 1:
            raise InvalidParameter(f"block_bytes must be positive, got {self.block_bytes}")


class ReverseView:
    """Random access: ``blocks`` gives each block as bytes."""

    def __init__(self, source: ContainerReader) -> None:
        self._source = source
        self.block_count = len(source.index())

    def block(self, number: int) -> bytes:
        return self._source.read(self._source.index()[number])[::-1]


class ReverseCodec:
    id: ClassVar[str] = "reverse"
    kind: ClassVar[str] = "bytes"
    summary: ClassVar[str] = "stores bytes in reversed blocks"
    lossless: ClassVar[bool] = True
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = ReverseParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}, "large": {"block_bytes": 4096}}
    default_preset: ClassVar[str] = "default"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"DATA"})
    axes: ClassVar[frozenset[str]] = frozenset({"range"})

    def encode(
        self, source: Any, sink: ContainerWriter, params: ReverseParams, *, context: RunContext
    ) -> Mapping[str, Figure]:
        sink.write_header(Header(codec=self.id, bitstream=1, parameters={"block_bytes": params.block_bytes}))
        position = 0
        while block := source.read(params.block_bytes):
            sink.write_chunk("DATA", block[::-1], span=(position, len(block)), decoded_size=len(block))
            position += len(block)
            context.report("encode", position, None, unit="bytes")
        return {}

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        return {}

    def decode(
        self, source: ContainerReader, sink: Any, *, context: RunContext, selection: Selection | None = None
    ) -> Mapping[str, Figure]:
        if selection is None:
            for chunk in source.chunks():
                sink.write(chunk.payload[::-1])
            return {}
        entries = source.index()
        length = sum(entry.length for entry in entries)
        start, stop = selection.range_of("range", length)
        for entry in entries:
            first, count = entry.span
            if first < stop and first + count > start:
                block = source.read(entry)[::-1]
                sink.write(block[max(start - first, 0) : stop - first])
        return {}

    def open(self, source: ContainerReader, *, context: RunContext) -> ReverseView:
        return ReverseView(source)

    def describe(self, header: Header) -> Mapping[str, Any]:
        return {"block size": header.parameters["block_bytes"]}
