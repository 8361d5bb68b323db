"""The entry point of ``codec``: parses arguments and imports only the handler that is needed."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TypeAlias

from .exit_codes import ExitCode, exit_code_of
from .run_arguments import add_run_options, add_settings

__all__ = ["main"]

_HANDLERS = {
    "encode": "encode",
    "decode": "decode",
    "info": "info",
    "verify": "verify",
    "list": "listing",
    "train": "train",
    "bench": "bench",
}

_WITHOUT_ARITHMETIC = frozenset({"info", "verify", "list"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code documented in ``codec --help``."""
    # torch's threads spin a long time at each barrier by default: on a busy machine that tripled the time of a fit
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    parsed = _parser().parse_args(arguments)
    if parsed.command in _WITHOUT_ARITHMETIC:
        # NumPy's BLAS otherwise starts a thread for each core, which costs more than all the rest of these commands
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    handler = importlib.import_module(f".{_HANDLERS[parsed.command]}", __package__)
    from ..formats.errors import CodecError

    try:
        return int(handler.run(parsed))
    except CodecError as error:
        print(f"codec {parsed.command}: {error}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        print(f"codec {parsed.command}: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # the reader of our standard output went away; do not complain again when the interpreter flushes it
        sys.stdout = None
        return ExitCode.SOME_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codec",
        description="Neural codecs that write real files.",
        epilog="Exit codes: 0 done, 1 some inputs failed, 2 usage, 3 corrupt file, 4 unsupported, 5 above a limit, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_encode(commands)
    _add_decode(commands)
    _add_info(commands)
    _add_verify(commands)
    _add_list(commands)
    _add_train(commands)
    _add_bench(commands)
    return parser


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_encode(commands: _Commands) -> None:
    command = commands.add_parser("encode", help="compress files", description="Compress files.")
    command.add_argument("inputs", nargs="+", metavar="INPUT", help="a file, a folder with --output-dir, or -")
    _add_output(command)
    command.add_argument("--codec", metavar="ID", help="default: chosen by the kind of the input")
    command.add_argument("--preset", metavar="NAME", help="see `codec list --settings`")
    add_settings(command)
    add_run_options(command)
    command.add_argument(
        "--mask", metavar="FILE", help="fit only what is white in this picture or clip (--set mask=FILE)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything random (default 0)")
    command.add_argument("--resume", action="store_true", help="continue an interrupted run from OUTPUT.resume")
    command.add_argument("--verify", action="store_true", help="decode the result and check it before it appears")
    command.add_argument("--executor", choices=("local", "ray"), help="with --output-dir: encode on many workers")
    command.add_argument("--workers", type=int, metavar="N", help="with --executor; default: all cores")
    command.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster, whose machines must share the folders")


def _add_decode(commands: _Commands) -> None:
    command = commands.add_parser(
        "decode",
        help="restore files",
        description="Restore files; the suffix of OUTPUT chooses its format.",
    )
    command.add_argument("inputs", nargs="+", metavar="INPUT", help="a codeckit file, or -")
    _add_output(command)
    for axis, what in (
        ("frames", "frames of a video"),
        ("layers", "layers of a cache"),
        ("tokens", "tokens of a cache"),
        ("range", "bytes of a text"),
        ("rows", "rows of a table"),
    ):
        command.add_argument(f"--{axis}", metavar="A:B", help=f"only these {what} (half-open, from 0)")
    command.add_argument("--level", metavar="N", help="a picture 2**N times smaller; the same as --set level=N")
    add_settings(command)
    add_run_options(command)
    command.add_argument("--recover", action="store_true", help="take what is whole from a damaged file")


def _add_info(commands: _Commands) -> None:
    command = commands.add_parser("info", help="describe a file", description="Describe files.")
    command.add_argument("inputs", nargs="+", metavar="FILE", help="a codeckit file, or -")
    command.add_argument("--json", action="store_true", help="one JSON object per file")


def _add_verify(commands: _Commands) -> None:
    command = commands.add_parser(
        "verify",
        help="check files",
        description="Check every byte of files against their checksums.",
    )
    command.add_argument("inputs", nargs="+", metavar="FILE", help="a codeckit file, or -")
    command.add_argument("--json", action="store_true", help="one JSON object per file")


def _add_list(commands: _Commands) -> None:
    command = commands.add_parser("list", help="show the codecs", description="Show the installed codecs.")
    command.add_argument("--settings", action="store_true", help="with their presets and settings")
    command.add_argument("--json", action="store_true")


def _add_train(commands: _Commands) -> None:
    command = commands.add_parser(
        "train",
        help="train a model",
        description="Train the model of a codec; without NAME, show what there is.",
    )
    command.add_argument("name", nargs="?", metavar="NAME")
    command.add_argument("--data", nargs="+", default=[], metavar="PATH", help="training data")
    command.add_argument("-o", "--output", metavar="FILE", help="where the model goes")
    add_settings(command)
    add_run_options(command)
    command.add_argument("--seed", type=int, default=0, metavar="N")
    command.add_argument("--resume", action="store_true", help="continue from OUTPUT.resume")


def _add_bench(commands: _Commands) -> None:
    command = commands.add_parser(
        "bench",
        help="run a benchmark",
        description="Run a benchmark, or a command on sweeps and results; without NAME, show what there is. "
        "`codec bench NAME --help` shows the options of each.",
    )
    command.add_argument("--json", action="store_true", help="with no NAME: one JSON object per benchmark")
    command.add_argument("name", nargs="?", metavar="NAME")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="its own arguments and options")


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--output", metavar="OUTPUT", help="output file, or - for standard output")
    command.add_argument("--output-dir", metavar="DIR", help="folder for the outputs of several inputs")
    command.add_argument("-f", "--force", action="store_true", help="replace existing outputs")


def _version() -> str:
    from importlib.metadata import version

    return f"codec {version('codeckit')}"
