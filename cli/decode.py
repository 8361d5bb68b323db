"""``codec decode``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..codecs.parameters import Range
from ..codecs.protocol import Selection
from ..codecs.run_context import CancellationToken
from ..decoding import decode
from ..formats.errors import InvalidParameter
from .output import ProgressBar, format_size, print_table
from .runs import Job, cancellable, parse_settings, plan_jobs, run_context, run_jobs

__all__ = ["run"]

_AXES = ("frames", "layers", "tokens", "range", "rows")


def run(options: argparse.Namespace) -> int:
    """Decode every input."""
    words = [*options.settings, *([] if options.level is None else [f"level={options.level}"])]
    selection = Selection(ranges=_ranges(options), settings=parse_settings(words))
    jobs = plan_jobs(options, _decoded_name)
    with cancellable() as token:
        return run_jobs(options, jobs, lambda job: _decode(job, options, selection, token), _show)


def _decode(job: Job, options: argparse.Namespace, selection: Selection, token: CancellationToken) -> Mapping[str, Any]:
    source: Any = sys.stdin.buffer if job.input == "-" else job.input
    target: Any = sys.stdout.buffer if job.output == "-" else job.output
    with ProgressBar(quiet=options.quiet) as bar:
        report = decode(
            source,
            target,
            selection=selection,
            context=run_context(options, bar, token),
            overwrite=options.force,
            recover=options.recover,
        )
    return {
        "command": "decode",
        "input": job.input,
        "output": job.output,
        "codec": report.codec,
        "bitstream_version": report.bitstream_version,
        "input_bytes": report.input_bytes,
        "output_bytes": report.output_bytes,
        "seconds": round(report.seconds, 3),
        "device": report.device,
        **report.figures,
    }


def _ranges(options: argparse.Namespace) -> dict[str, tuple[int, int | None]]:
    ranges: dict[str, tuple[int, int | None]] = {}
    for axis in _AXES:
        text = getattr(options, axis)
        if text is not None:
            try:
                chosen = Range.parse(text)
            except InvalidParameter as error:
                raise InvalidParameter(f"--{axis}: {error}") from error
            ranges[axis] = chosen.start, chosen.stop
    return ranges


def _decoded_name(path: Path) -> str:
    """``clip.mp4.ck`` gives back ``clip.mp4``; other names get ``.decoded``."""
    return path.stem if path.suffix == ".ck" and Path(path.stem).suffix else path.name + ".decoded"


def _show(result: Mapping[str, Any]) -> None:
    shown = {
        "input": f"{result['input']}  ({format_size(result['input_bytes'])})",
        "output": f"{result['output']}  ({format_size(result['output_bytes'])})",
    }
    skipped = {"command", "input", "output", "input_bytes", "output_bytes"}
    shown |= {key: value for key, value in result.items() if key not in skipped}
    print_table([(key, value) for key, value in shown.items()])
