"""``codeckit.encode``: from any input to a file, a stream or bytes."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO, overload

from .codecs.parameters import make_parameters
from .codecs.protocol import Codec, EncodeReport, Figure
from .codecs.registry import find_codec
from .codecs.run_context import RunContext
from .formats.atomic_file import AtomicFile, output_errors
from .formats.errors import InvalidParameter, UnsupportedInput
from .formats.kinds import comparing_sink, open_source, probe_kind
from .formats.reader import ContainerReader
from .formats.writer import ContainerWriter
from .memory import memory_errors

__all__ = ["DEFAULT_CODECS", "EncodeTarget", "choose_codec", "encode", "encode_report", "verify_written"]

DEFAULT_CODECS: Mapping[str, str] = {
    "video": "hnerv",
    "bytes": "text",
    "image": "pc",
    "tensors": "kv",
    "vectors": "vectors",
}

EncodeTarget = str | os.PathLike[str] | BinaryIO


@overload
def encode(
    source: Any,
    output: None = None,
    *,
    codec: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    context: RunContext | None = None,
    overwrite: bool = False,
    verify: bool = False,
) -> bytes: ...


@overload
def encode(
    source: Any,
    output: EncodeTarget,
    *,
    codec: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    context: RunContext | None = None,
    overwrite: bool = False,
    verify: bool = False,
) -> EncodeReport: ...


@memory_errors()
def encode(
    source: Any,
    output: EncodeTarget | None = None,
    *,
    codec: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    context: RunContext | None = None,
    overwrite: bool = False,
    verify: bool = False,
) -> bytes | EncodeReport:
    """Encode ``source`` with a codec; return a report, or the file's bytes when ``output`` is None.

    ``source`` is a path, bytes, a binary file object, or what the codec's kind takes in memory: video as uint8
    ``[T, H, W, 3]`` arrays or tensors, images as ``[H, W]`` or ``[H, W, C]``, caches as
    ``[layers, 2, tokens, heads, dim]``, embedding vectors as float ``[N, D]``.
    ``output`` is a path, which appears only when complete, or a writable binary stream, which need not seek.
    Without ``codec`` the kind of the input chooses one of :data:`DEFAULT_CODECS`. ``settings`` override the preset;
    their names and types are listed by ``codec list --settings``. With ``verify`` the finished file is checked before
    it appears: every checksum, and for lossless codecs that it decodes to the very input.

    Raises :class:`CodecError` and its kinds: :class:`UnsupportedInput`, :class:`InvalidParameter`,
    :class:`OutputFailure`, :class:`LimitExceeded` (also when memory runs out),
    :class:`DeviceUnavailable`, :class:`Cancelled`.
    """
    run = context or RunContext()
    chosen = choose_codec(source, codec)
    params = make_parameters(chosen.Params, chosen.presets, preset or chosen.default_preset, settings or {})
    if output is None:
        buffer = io.BytesIO()
        _encode_to(buffer, source, chosen, params, run)
        if verify:
            verify_written(buffer, source, chosen, run)
        return buffer.getvalue()
    if isinstance(output, (str, os.PathLike)):
        with AtomicFile(output, overwrite=overwrite) as file:
            report = _encode_to(file, source, chosen, params, run)
            if verify:
                verify_written(file.stream, source, chosen, run)
            file.commit()
            return report
    if verify:
        raise InvalidParameter("a stream cannot be verified before it is gone; write to a file")
    with output_errors("output stream"):
        report = _encode_to(output, source, chosen, params, run)
        output.flush()
        return report


def choose_codec(source: Any, codec: str | None) -> Codec[Any]:
    """The codec called ``codec``, or the default for the kind of ``source``."""
    if codec is not None:
        return find_codec(codec)
    kind = probe_kind(source)
    if kind not in DEFAULT_CODECS:
        raise UnsupportedInput(f"no codec is the default for {kind}; name one")
    return find_codec(DEFAULT_CODECS[kind])


def _encode_to(stream: Any, source: Any, codec: Codec[Any], params: Any, context: RunContext) -> EncodeReport:
    start = time.perf_counter()
    with ExitStack() as stack:
        opened = stack.enter_context(open_source(codec.kind, source, limits=context.limits))
        writer = ContainerWriter(stream, limits=context.limits, compact=True)
        figures = codec.encode(opened, writer, params, context=context)
        return encode_report(codec, writer, opened, figures, time.perf_counter() - start)


def encode_report(
    codec: Codec[Any], writer: ContainerWriter, source: Any, figures: Mapping[str, Figure], seconds: float
) -> EncodeReport:
    """Finish a file and say what was done."""
    output_bytes = writer.finish()
    shown = dict(figures)
    if writer.header is not None:
        shown |= codec.rate_figures(writer.header, output_bytes)
    return EncodeReport(
        codec=codec.id,
        bitstream_version=codec.bitstream_version,
        input_bytes=int(source.size_bytes),
        output_bytes=output_bytes,
        seconds=seconds,
        device=str(shown.pop("device", "cpu")),
        figures=shown,
    )


def verify_written(written: BinaryIO, source: Any, codec: Codec[Any], context: RunContext) -> None:
    """Check what was written before it gets its name."""
    written.flush()
    with ContainerReader(written, limits=context.limits) as reader:
        if codec.lossless:
            with comparing_sink(codec.kind, source, limits=context.limits) as sink:
                codec.decode(reader, sink, context=context)
                sink.commit()
        reader.verify()
