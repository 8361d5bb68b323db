"""``codec bench``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..codecs.plugins import find_plugin
from ..formats.atomic_file import output_errors
from .output import ProgressBar, print_json, print_table
from .plugin_list import show_plugins
from .runs import cancellable, parse_settings, run_context

__all__ = ["run"]

GROUP = "codeckit.benchmarks"


def run(options: argparse.Namespace) -> int:
    """Run the benchmark called ``options.name``, or show what there is."""
    if options.name is None:
        return show_plugins(GROUP, "benchmark", as_json=options.json)
    bench = find_plugin(GROUP, options.name, "benchmark")
    settings = parse_settings(options.settings)
    with cancellable() as token, ProgressBar(quiet=options.quiet) as bar:
        rows = bench(settings, run_context(options, bar, token))
    if options.output is not None:
        with (
            output_errors(options.output),
            Path(options.output).open("a", encoding="utf-8") as stream,
        ):
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    if options.json:
        for row in rows:
            print_json({"command": "bench", "name": options.name, **row})
    elif not options.quiet:
        headings = list(dict.fromkeys(key for row in rows for key in row))
        print_table([[row.get(key) for key in headings] for row in rows], headings)
    return 0
