"""``codec bench``: commands on sweeps and results, and benchmarks of single codecs, both found by entry point."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..codecs.plugins import find_plugin, nearest, plugins_by_name
from ..formats.atomic_file import output_errors
from ..formats.errors import InvalidParameter
from .output import ProgressBar, print_json, print_table
from .plugin_list import show_plugins
from .run_arguments import add_run_options, add_settings
from .runs import cancellable, parse_settings, run_context

__all__ = ["run"]

COMMANDS = "codeckit.bench_commands"
BENCHMARKS = "codeckit.benchmarks"


def run(options: argparse.Namespace) -> int:
    """Run the command or benchmark called ``options.name``, or show what there is."""
    if options.name is None:
        show_plugins(COMMANDS, "command", as_json=options.json)
        if not options.json:
            print()
        return show_plugins(BENCHMARKS, "benchmark", as_json=options.json)
    known = {*plugins_by_name(COMMANDS), *plugins_by_name(BENCHMARKS)}
    if options.name not in known:
        raise InvalidParameter(f"no benchmark is called {options.name!r}{nearest(options.name, known)}")
    if options.name in plugins_by_name(COMMANDS):
        return _run_command(options.name, options.words)
    return _run_benchmark(options.name, options.words)


def _run_command(name: str, words: list[str]) -> int:
    command: Any = find_plugin(COMMANDS, name, "command")
    parser = argparse.ArgumentParser(prog=f"codec bench {name}", description=command.summary)
    command.add_arguments(parser)
    add_run_options(parser)
    options = parser.parse_args(words, argparse.Namespace(command="bench"))
    with cancellable() as token, ProgressBar(quiet=options.quiet) as bar:
        rows = command.run(options, run_context(options, bar, token))
    _show(name, rows, options)
    return 0


def _run_benchmark(name: str, words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"codec bench {name}")
    parser.add_argument("-o", "--output", metavar="FILE", help="append the rows to FILE as JSON lines")
    parser.add_argument("--preset", metavar="NAME", help="the same as --set preset=NAME")
    add_settings(parser)
    add_run_options(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    options = parser.parse_args(words, argparse.Namespace(command="bench"))
    bench = find_plugin(BENCHMARKS, name, "benchmark")
    named = [] if options.preset is None else [f"preset={options.preset}"]
    settings = parse_settings([*named, *options.settings])
    with cancellable() as token, ProgressBar(quiet=options.quiet) as bar:
        rows = bench(settings, run_context(options, bar, token))
    if options.output is not None:
        with (
            output_errors(options.output),
            Path(options.output).open("a", encoding="utf-8") as stream,
        ):
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    _show(name, rows, options)
    return 0


def _show(name: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    if options.json:
        for row in rows:
            print_json({"command": "bench", "name": name, **row})
    elif not options.quiet:
        headings = list(dict.fromkeys(key for row in rows for key in row))
        print_table([[row.get(key) for key in headings] for row in rows], headings)
