"""What encode and decode share: inputs and outputs, settings, the run context, and the loop over files."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..codecs.run_context import CancellationToken, RunContext
from ..formats.errors import Cancelled, CodecError, InvalidParameter, OutputFailure
from .exit_codes import ExitCode, exit_code_of
from .output import ProgressBar, note, print_json

__all__ = ["Job", "cancellable", "in_turn", "parse_settings", "plan_jobs", "run_context", "run_jobs", "show_outcomes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One input and where its result goes; ``-`` stands for the standard streams."""

    input: str
    output: str


def parse_settings(items: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` words as a dict; a key may come once."""
    settings: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise InvalidParameter(f"--set {item!r} is not KEY=VALUE")
        if key in settings:
            raise InvalidParameter(f"--set {key} is given twice")
        settings[key] = value
    return settings


def plan_jobs(options: argparse.Namespace, rename: Callable[[Path], str]) -> list[Job]:
    """Pair inputs with outputs; ``rename`` gives the output's name for an input under ``--output-dir``."""
    if (options.output is None) == (options.output_dir is None):
        raise InvalidParameter("give exactly one of -o OUTPUT and --output-dir DIR")
    if "" in (*options.inputs, options.output, options.output_dir):
        raise InvalidParameter("an input or output has an empty name")
    if options.output is not None:
        if len(options.inputs) > 1:
            raise InvalidParameter("several inputs need --output-dir DIR")
        _refuse_terminal(options.output)
        return [Job(input=options.inputs[0], output=options.output)]
    folder = Path(options.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InvalidParameter(f"--output-dir {folder} is not a folder")
    files = [file for name in options.inputs for file in _files(name)]
    if not files:
        raise InvalidParameter("no input files were found")
    jobs = [Job(input=str(path), output=str(folder / rename(path))) for path in files]
    outputs = [job.output for job in jobs]
    for output in outputs:
        if outputs.count(output) > 1:
            raise InvalidParameter(f"two inputs would both become {output}; encode them separately")
    folder.mkdir(parents=True, exist_ok=True)
    return jobs


def run_context(options: argparse.Namespace, bar: ProgressBar, token: CancellationToken, **more: Any) -> RunContext:
    """The run context that the command-line options describe."""
    if not options.quiet:
        _note_log_messages()
    return RunContext(
        device=options.device,
        threads=options.threads,
        seed=getattr(options, "seed", 0),
        progress=bar,
        warn=None if options.quiet else note,
        cancellation=token,
        **more,
    )


def _note_log_messages() -> None:
    """Show what the package logs, such as that it compiles, as notes."""
    import logging  # not for commands that start in no time

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    logger = logging.getLogger(__package__.partition(".")[0])
    logger.handlers[:] = [Notes()]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def cancellable() -> Iterator[CancellationToken]:
    """A token that the first Ctrl-C sets; the second interrupts at once."""
    token = CancellationToken()

    def on_interrupt(_number: int, _frame: object) -> None:
        if token.cancelled:
            raise KeyboardInterrupt
        token.cancel()
        print(
            "\ncodec: stopping at the next safe point; press Ctrl-C again to stop at once",
            file=sys.stderr,
        )

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield token
    finally:
        signal.signal(signal.SIGINT, previous)


def run_jobs(
    options: argparse.Namespace,
    jobs: list[Job],
    work: Callable[[Job], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], None],
) -> int:
    """Do ``work`` for each job, go on after a failed one, and return the exit code."""
    return show_outcomes(options, len(jobs), in_turn(jobs, work), show)


def show_outcomes(
    options: argparse.Namespace,
    count: int,
    outcomes: Iterable[tuple[Job, Mapping[str, Any] | CodecError]],
    show: Callable[[Mapping[str, Any]], None],
) -> int:
    """Show the outcomes of ``count`` jobs as they come and return the exit code."""
    failures: list[ExitCode] = []
    for job, result in outcomes:
        if isinstance(result, CodecError):
            error = result
            _report_failure(options, job, error)
            failures.append(exit_code_of(error))
            if isinstance(error, Cancelled):
                return ExitCode.INTERRUPTED
            continue
        if options.json:
            print_json(result, stream=_report_stream(job))
        elif not options.quiet and job.output != "-":
            show(result)
    if not failures:
        return ExitCode.DONE
    return failures[0] if count == 1 else ExitCode.SOME_FAILED


def in_turn(
    jobs: list[Job], work: Callable[[Job], Mapping[str, Any]]
) -> Iterator[tuple[Job, Mapping[str, Any] | CodecError]]:
    """Do ``work`` for each job; an error is the outcome of its own job alone."""
    for job in jobs:
        try:
            result: Mapping[str, Any] | CodecError = work(job)
        except CodecError as error:
            result = error
        yield job, result


def _report_failure(options: argparse.Namespace, job: Job, error: CodecError) -> None:
    if options.json:
        failure = {"type": type(error).__name__, "message": str(error)}
        report = {"command": options.command, "input": job.input, "error": failure}
        print_json(report, stream=_report_stream(job))
    print(f"codec {options.command}: {job.input}: {error}", file=sys.stderr)
    if options.verbose:
        traceback.print_exception(error)


def _report_stream(job: Job) -> TextIO:
    """Data on standard output must not be mixed with the report about it."""
    return sys.stderr if job.output == "-" else sys.stdout


def _refuse_terminal(output: str) -> None:
    if output == "-" and sys.stdout.isatty():
        raise OutputFailure("will not write binary data to a terminal; use -o FILE or a pipe")


def _files(name: str) -> list[Path]:
    path = Path(name)
    if name == "-":
        raise InvalidParameter("standard input needs -o OUTPUT")
    if path.is_dir():
        return sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
    return [path]
