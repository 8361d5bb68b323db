"""``codeckit.decode``: from a codeckit file to what it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, overload

from .codecs.protocol import Codec, DecodeReport, Selection
from .codecs.registry import find_codec
from .codecs.run_context import RunContext
from .formats.errors import InvalidParameter, NumericProfileMismatch, UnsupportedVersion
from .formats.kinds import memory_sink, open_sink
from .formats.reader import ContainerReader, ContainerSource
from .memory import memory_errors

__all__ = ["decode", "open_container", "select"]


@overload
def decode(
    source: ContainerSource,
    output: None = None,
    *,
    selection: Selection | None = None,
    context: RunContext | None = None,
    overwrite: bool = False,
    recover: bool = False,
) -> Any: ...


@overload
def decode(
    source: ContainerSource,
    output: str | os.PathLike[str] | BinaryIO,
    *,
    selection: Selection | None = None,
    context: RunContext | None = None,
    overwrite: bool = False,
    recover: bool = False,
) -> DecodeReport: ...


@memory_errors()
def decode(
    source: ContainerSource,
    output: str | os.PathLike[str] | BinaryIO | None = None,
    *,
    selection: Selection | None = None,
    context: RunContext | None = None,
    overwrite: bool = False,
    recover: bool = False,
) -> Any:
    """Decode a codeckit file; return a report, or the decoded object when ``output`` is None.

    ``source`` is a path, bytes or a binary file object; ``output`` a path (its suffix chooses the format, and it
    appears only when the whole file proved sound) or a binary stream. In memory, video comes back as uint8
    ``[T, H, W, 3]``, bytes as ``bytes``. With ``recover`` a damaged file gives what is whole.

    Raises :class:`CorruptFile` and its kinds, :class:`UnsupportedVersion`, :class:`UnknownCodec`,
    :class:`LimitExceeded` (also when memory runs out), :class:`InvalidParameter`, :class:`OutputFailure`.
    """
    run = context or RunContext()
    with ContainerReader(source, limits=run.limits, recover=recover) as container:
        codec = open_container(container)
        chosen = select(codec, selection)
        if output is None:
            with memory_sink(codec.kind, limits=run.limits) as memory:
                codec.decode(container, memory, context=run, selection=chosen)
                _finish(container, chosen, run)
                memory.commit()
                return memory.value
        start = time.perf_counter()
        with open_sink(codec.kind, output, overwrite=overwrite, limits=run.limits) as sink:
            figures = dict(codec.decode(container, sink, context=run, selection=chosen))
            _finish(container, chosen, run)
            sink.commit()
            output_bytes = int(sink.size_bytes)
        return DecodeReport(
            codec=codec.id,
            bitstream_version=container.header.bitstream,
            input_bytes=container.size_bytes or 0,
            output_bytes=output_bytes,
            seconds=time.perf_counter() - start,
            device=str(figures.pop("device", "cpu")),
            figures=figures,
        )


def open_container(container: ContainerReader) -> Codec[Any]:
    """The codec of an opened container, after checking that it can read this bitstream."""
    codec = find_codec(container.header.codec)
    container.require_bitstream(newest=codec.bitstream_version)
    container.expect_types(codec.chunk_types)
    checked: frozenset[str] = getattr(codec, "checks", frozenset())
    header = container.header
    if header.profile is not None and "profile" not in checked:
        raise NumericProfileMismatch(
            f"the file needs the numeric profile {header.profile!r}, the codec {codec.id} here knows none; "
            "use the version that wrote the file"
        )
    if header.weights and "weights" not in checked:
        raise UnsupportedVersion(
            f"the file needs model weights {header.weights[0][:16]}..., the codec {codec.id} here uses none; "
            "use the version that wrote the file"
        )
    return codec


def select(codec: Codec[Any], selection: Selection | None) -> Selection | None:
    """Check that ``codec`` knows every axis of ``selection``; an empty selection is None."""
    if selection is None or not (selection.ranges or selection.settings):
        return None
    unknown: Mapping[str, object] = {axis: None for axis in selection.ranges if axis not in codec.axes}
    if unknown:
        known = ", ".join(sorted(codec.axes)) or "none"
        raise InvalidParameter(f"codec {codec.id} cannot select {', '.join(sorted(unknown))}; it can select: {known}")
    return selection


def _finish(container: ContainerReader, selection: Selection | None, context: RunContext) -> None:
    """Everything that decode has not read yet must be sound before an output appears."""
    if selection is None:
        container.verify()
    for message in container.warnings:
        context.warning(message)
