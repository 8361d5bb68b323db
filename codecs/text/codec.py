"""The codec ``text``: lossless files from any bytes, by context mixing with a trained byte model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...formats.errors import CorruptFile, InvalidParameter, NumericProfileMismatch
from ...formats.header import Header
from .block_files import BlockKind, BlockView, write_blocks

if TYPE_CHECKING:
    from ...formats.byte_streams import ByteSink, ByteSource
    from ...formats.canonical_json import JsonObject, JsonValue
    from ...formats.reader import ContainerReader
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure, Selection
    from ..run_context import RunContext
    from .byte_model import ByteModel
    from .segment_coding import CodedBlock

__all__ = ["NUMERIC_PROFILE", "TextCodec", "TextParams"]

NUMERIC_PROFILE = "text-mixing-1"
_BLOCK_TYPE = "TBLK"
# Below this size it is worth asking whether the model saves more than its digest costs in the header.
_SMALL_BYTES = 4096
_DIGEST_BYTES = 79
_KIB = 1 << 10
_MIB = 1 << 20
# A block in flight holds its context table (256 MiB for max); more than this many would break the memory bound.
_MOST_THREADS = {"fast": 16, "balanced": 4, "max": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextParams:
    """Settings of the text codec."""

    preset: Literal["fast", "balanced", "max"] = field(
        default="balanced", metadata={"help": "how much time to spend for how small a file"}
    )
    block_kib: int = field(
        default=2048, metadata={"help": "block size in KiB: smaller for finer random access, larger for smaller files"}
    )
    model: bool = field(default=True, metadata={"help": "start blocks from the shipped byte model where that helps"})

    def __post_init__(self) -> None:
        if not 16 <= self.block_kib <= 16 * _KIB:
            raise InvalidParameter(f"block_kib={self.block_kib} is not within 16..16384")


class TextCodec:
    """Lossless compression of any bytes, made for text; see docs/text.md for the bitstream."""

    id: ClassVar[str] = "text"
    kind: ClassVar[str] = "bytes"
    summary: ClassVar[str] = "lossless text (any bytes): context mixing with a trained byte model"
    lossless: ClassVar[bool] = True
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = TextParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"preset": "fast"},
        "balanced": {"preset": "balanced"},
        "max": {"preset": "max"},
    }
    default_preset: ClassVar[str] = "balanced"
    chunk_types: ClassVar[frozenset[str]] = frozenset({_BLOCK_TYPE})
    axes: ClassVar[frozenset[str]] = frozenset({"range"})
    checks: ClassVar[frozenset[str]] = frozenset({"profile", "weights"})

    def encode(
        self, source: ByteSource, sink: ContainerWriter, params: TextParams, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Code the source segment by segment; a segment is at most 64 MiB, so memory stays bounded."""
        # Numba takes a third of a second to load, so only coding imports it.
        from .block_coding import needs_model
        from .byte_model import load_byte_model
        from .presets import preset_by_name
        from .segment_coding import SEGMENT_BYTES, encode_segment

        preset = preset_by_name(params.preset)
        model = load_byte_model() if params.model else None
        block_bytes = params.block_kib * _KIB
        threads = _threads(context, params.preset)
        position = 0
        data = source.read(SEGMENT_BYTES)
        following = source.read(1) if len(data) == SEGMENT_BYTES else b""
        first = True
        while first or data:
            report = partial(_report, context, position)
            blocks = encode_segment(data, preset, block_bytes, model, threads, report)
            if first and len(data) <= _SMALL_BYTES and any(needs_model(block.payload) for block in blocks):
                plain = encode_segment(data, preset, block_bytes, None, threads, report)
                if _payload_bytes(plain) <= _payload_bytes(blocks) + _DIGEST_BYTES:
                    blocks = plain
            if first:
                # Small files keep the 64 digits of the model's hash only if a block needs them.
                used = bool(following) or any(needs_model(block.payload) for block in blocks)
                size = None if following else len(data)
                sink.write_header(_header(params, model if used else None, size))
                first = False
            for block in blocks:
                span = (position, position + block.size)
                sink.write_chunk(_BLOCK_TYPE, block.payload, span=span, decoded_size=block.size)
                position += block.size
            data = following + source.read(SEGMENT_BYTES - 1) if following else b""
            following = source.read(1) if len(data) == SEGMENT_BYTES else b""
        return {"threads": threads}

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Bits per byte of the whole file, where the header knows the input's size (inputs up to 64 MiB)."""
        size = header.parameters.get("bytes")
        if not isinstance(size, int) or size < 1:
            return {}
        return {"bits_per_byte": output_bytes * 8 / size}

    def decode(
        self,
        source: ContainerReader,
        sink: ByteSink,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Write the file's bytes, or those of the selected ``range``, to ``sink``."""
        if selection is not None and selection.settings:
            raise InvalidParameter(f"decoding text knows no setting {', '.join(sorted(selection.settings))}")
        threads = _threads(context, str(source.header.parameters.get("preset")))
        kind = _blocks(_model_of(source.header))
        write_blocks(source, sink, kind, context=context, selection=selection, threads=threads)
        return {}

    def open(self, source: ContainerReader, *, context: RunContext) -> BlockView:
        """A view with random access to byte ranges."""
        return BlockView(source, _blocks(_model_of(source.header)))

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Preset, block size and whether the byte model is needed."""
        return {**header.parameters, "needs_byte_model": bool(header.weights)}


def _header(params: TextParams, model: ByteModel | None, size: int | None) -> Header:
    parameters: JsonObject = {"preset": params.preset}
    if size is not None:
        parameters["bytes"] = size
    return Header(
        codec=TextCodec.id,
        bitstream=TextCodec.bitstream_version,
        parameters=parameters,
        profile=NUMERIC_PROFILE,
        weights=(model.sha256,) if model is not None else (),
    )


def _payload_bytes(blocks: list[CodedBlock]) -> int:
    return sum(len(block.payload) for block in blocks)


def _model_of(header: Header) -> ByteModel | None:
    if header.profile != NUMERIC_PROFILE:
        raise NumericProfileMismatch(
            f"the file needs the numeric profile {header.profile!r}, this reader has {NUMERIC_PROFILE!r}; "
            "install the codeckit version that wrote it"
        )
    if not header.weights:
        return None
    from .byte_model import require_model

    if len(header.weights) != 1:
        raise CorruptFile(f"header: {len(header.weights)} weight digests, the text codec uses one")
    return require_model(header.weights[0])


def _report(context: RunContext, position: int, done: int) -> None:
    context.report("encode", position + done, None, unit="bytes")


def _threads(context: RunContext, preset: str) -> int:
    asked = context.threads or os.cpu_count() or 1
    return min(asked, _MOST_THREADS.get(preset, 2))


def _blocks(model: ByteModel | None) -> BlockKind:
    from .block_coding import MAX_BLOCK_BYTES, decode_block

    def decode(payload: bytes, size: int, where: str) -> bytes:
        return decode_block(payload, size, model, where)

    return BlockKind(chunk_type=_BLOCK_TYPE, most_bytes=MAX_BLOCK_BYTES, decode=decode)
