"""``encode_many``: many inputs, each to a file of its own, together where the codec can."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from .codecs.parameters import make_parameters
from .codecs.protocol import Codec, EncodeReport
from .codecs.registry import find_codec
from .codecs.run_context import RunContext
from .encoding import encode, encode_report, verify_written
from .formats.atomic_file import AtomicFile
from .formats.errors import Cancelled, CodecError
from .formats.kinds import open_source
from .formats.writer import ContainerWriter
from .memory import memory_errors

__all__ = ["encode_many", "encodes_together"]

Path = str | os.PathLike[str]
Outcome = EncodeReport | CodecError

TOGETHER = 32
"""Inputs that are open at once."""


def encodes_together(codec: Codec[Any]) -> bool:
    """Whether a codec can encode several inputs together."""
    return hasattr(codec, "encode_together")


def encode_many(
    jobs: Sequence[tuple[Path, Path]],
    *,
    codec: str,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    context: RunContext | None = None,
    overwrite: bool = False,
    verify: bool = False,
) -> Iterator[Outcome]:
    """Encode pairs of input and output path; yield a report or an error for each, in order.

    Every output has the bytes :func:`encode` would give it and appears only when complete. What stops one input does
    not stop the others, but for :class:`Cancelled`, which is raised. ``seconds`` of a report is the input's share of
    the time its group took.
    """
    run = context or RunContext()
    chosen = find_codec(codec)
    params = make_parameters(chosen.Params, chosen.presets, preset or chosen.default_preset, settings or {})
    for start in range(0, len(jobs), TOGETHER):
        group = jobs[start : start + TOGETHER]
        if encodes_together(chosen):
            yield from _group(group, chosen, params, run, overwrite=overwrite, verify=verify)
            continue
        for source, output in group:
            try:
                yield encode(
                    source, output, codec=codec, preset=preset, settings=settings, context=run, overwrite=overwrite,
                    verify=verify,
                )  # fmt: skip
            except Cancelled:
                raise
            except CodecError as error:
                yield error


def _group(
    jobs: Sequence[tuple[Path, Path]], codec: Codec[Any], params: Any, context: RunContext, *, overwrite: bool,
    verify: bool,
) -> list[Outcome]:  # fmt: skip
    """Encode inputs that are open at once."""
    started = time.perf_counter()
    outcomes: dict[int, Outcome] = {}
    with ExitStack() as stack:
        opened: dict[int, tuple[Any, AtomicFile, ContainerWriter]] = {}
        for number, (path, output) in enumerate(jobs):
            try:
                source = stack.enter_context(open_source(codec.kind, path, limits=context.limits))
                file = stack.enter_context(AtomicFile(output, overwrite=overwrite))
            except CodecError as error:
                outcomes[number] = error
                continue
            opened[number] = (source, file, ContainerWriter(file, limits=context.limits, compact=True))
        sources, writers = ([one[place] for one in opened.values()] for place in (0, 2))
        try:
            with memory_errors():
                encoded = codec.encode_together(sources, writers, params, context=context)  # type: ignore[attr-defined]
        except Cancelled:
            raise
        except CodecError as error:  # such as too little memory for the group
            encoded = [error] * len(opened)
        share = (time.perf_counter() - started) / max(1, len(opened))
        for (number, (source, file, writer)), figures in zip(opened.items(), encoded, strict=True):
            if isinstance(figures, CodecError):
                outcomes[number] = figures
                continue
            try:
                report = encode_report(codec, writer, source, figures, share)
                if verify:
                    verify_written(file.stream, jobs[number][0], codec, context)
                file.commit()
                outcomes[number] = report
            except Cancelled:
                raise
            except CodecError as error:
                outcomes[number] = error
    return [outcomes[number] for number in range(len(jobs))]
