"""``codec encode``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..batch_encoding import encode_many, encodes_together
from ..codecs.protocol import EncodeReport
from ..codecs.run_context import CancellationToken
from ..encoding import choose_codec, encode
from ..executors import Job as WorkerJob
from ..executors import make_executor
from ..formats.errors import Cancelled, CodecError, InvalidParameter, OutputFailure
from .output import ProgressBar, format_size, note, print_table
from .runs import Job, cancellable, in_turn, parse_settings, plan_jobs, run_context, show_outcomes

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Encode every input."""
    mask = [] if options.mask is None else [f"mask={options.mask}"]
    settings = parse_settings([*options.settings, *mask])
    jobs = plan_jobs(options, lambda path: path.name + ".ck")
    if options.resume and options.output_dir is not None:
        jobs = _unfinished(jobs, quiet=options.quiet)
    if options.executor is not None:
        return _run_on_workers(options, jobs, settings)
    with cancellable() as token:
        outcomes = _outcomes(options, jobs, settings, token)
        return show_outcomes(options, len(jobs), outcomes, _show)


def _outcomes(
    options: argparse.Namespace, jobs: list[Job], settings: Mapping[str, str], token: CancellationToken
) -> Iterator[tuple[Job, Mapping[str, Any] | CodecError]]:
    """Encode what codecs can encode together, then the rest in turn."""
    together: dict[str, list[Job]] = {}
    alone: list[Job] = []
    for job in jobs:
        codec = None if options.output_dir is None else _codec_for_many(job, options.codec)
        (alone if codec is None else together.setdefault(codec, [])).append(job)
    for codec, group in together.items():
        yield from _together(group, codec, options, settings, token)
    yield from in_turn(alone, lambda job: _encode(job, options, settings, token))


def _codec_for_many(job: Job, codec: str | None) -> str | None:
    """The codec an input goes to, where that can encode several together."""
    try:
        chosen = choose_codec(job.input, codec)
    except CodecError:
        return None
    return chosen.id if encodes_together(chosen) else None


def _together(
    jobs: list[Job],
    codec: str,
    options: argparse.Namespace,
    settings: Mapping[str, str],
    token: CancellationToken,
) -> Iterator[tuple[Job, Mapping[str, Any] | CodecError]]:
    with ProgressBar(quiet=options.quiet) as bar:
        outcomes = encode_many(
            [(job.input, job.output) for job in jobs],
            codec=codec,
            preset=options.preset,
            settings=settings,
            context=run_context(options, bar, token),
            overwrite=options.force,
            verify=options.verify,
        )
        done = 0
        try:
            for job, outcome in zip(jobs, outcomes, strict=True):
                yield job, outcome if isinstance(outcome, CodecError) else _result(job, outcome)
                done += 1
        except Cancelled as error:
            yield jobs[done], error


def _run_on_workers(options: argparse.Namespace, jobs: list[Job], settings: Mapping[str, str]) -> int:
    """Encode every input on an executor's workers; outputs appear whole, so a job done twice does no harm."""
    if options.output_dir is None:
        raise InvalidParameter("--executor is for many inputs: give --output-dir DIR")
    existing = next((job.output for job in jobs if Path(job.output).exists()), None)
    if existing is not None and not options.force:
        raise OutputFailure(f"{existing} exists; pass -f to replace it, or --resume to leave finished outputs alone")
    executor = make_executor(options.executor, workers=options.workers, address=options.address)
    # a worker on another machine has another current folder
    absolute = [Job(input=str(Path(job.input).resolve()), output=str(Path(job.output).resolve())) for job in jobs]
    by_key = {job.output: shown for job, shown in zip(absolute, jobs, strict=True)}
    quiet = argparse.Namespace(**{**vars(options), "quiet": True, "force": True, "threads": options.threads or 1})
    work = [WorkerJob(key=job.output, payload=(job, quiet, dict(settings))) for job in absolute]
    outcomes = ((by_key[one.key], one.error or one.value) for one in executor.run(_encode_on_worker, work))
    return show_outcomes(options, len(jobs), outcomes, _show)


def _encode_on_worker(payload: tuple[Job, argparse.Namespace, Mapping[str, str]]) -> Mapping[str, Any]:
    job, options, settings = payload
    return _encode(job, options, settings, CancellationToken())


def _encode(
    job: Job, options: argparse.Namespace, settings: Mapping[str, str], token: CancellationToken
) -> Mapping[str, Any]:
    source: Any = sys.stdin.buffer if job.input == "-" else job.input
    target: Any = sys.stdout.buffer if job.output == "-" else job.output
    checkpoint = _checkpoint_folder(job, options)
    with ProgressBar(quiet=options.quiet) as bar:
        context = run_context(options, bar, token, checkpoint_folder=checkpoint, resume=options.resume)
        report = encode(
            source,
            target,
            codec=options.codec,
            preset=options.preset,
            settings=settings,
            context=context,
            overwrite=options.force,
            verify=options.verify,
        )
    if checkpoint is not None:
        shutil.rmtree(checkpoint, ignore_errors=True)
    return _result(job, report)


def _result(job: Job, report: EncodeReport) -> Mapping[str, Any]:
    return {
        "command": "encode",
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


def _unfinished(jobs: list[Job], *, quiet: bool) -> list[Job]:
    """The jobs whose output is not there yet; outputs appear only when complete, so those that are there are done."""
    left = [job for job in jobs if not Path(job.output).exists()]
    if len(left) < len(jobs) and not quiet:
        note(f"{len(jobs) - len(left)} of {len(jobs)} outputs are there already and were left alone")
    return left


def _checkpoint_folder(job: Job, options: argparse.Namespace) -> Path | None:
    if job.output == "-":
        if options.resume:
            raise InvalidParameter("--resume needs -o FILE, beside which the state is kept")
        return None
    folder = Path(job.output + ".resume")
    if folder.exists() and not options.resume:
        if not options.force:
            raise InvalidParameter(
                f"{folder} holds the state of an interrupted run; pass --resume to continue it or -f to start over"
            )
        shutil.rmtree(folder)
    return folder


def _show(result: Mapping[str, Any]) -> None:
    shown = {
        "input": f"{result['input']}  ({format_size(result['input_bytes'])})",
        "output": f"{result['output']}  ({format_size(result['output_bytes'])})",
    }
    skipped = {"command", "input", "output", "input_bytes", "output_bytes"}
    shown |= {key: value for key, value in result.items() if key not in skipped}
    print_table([(key, value) for key, value in shown.items()])
