"""``codec train``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ..codecs.plugins import find_plugin
from ..formats.errors import InvalidParameter
from .output import ProgressBar, print_json, print_table
from .plugin_list import show_plugins
from .runs import cancellable, parse_settings, run_context

__all__ = ["run"]

GROUP = "codeckit.trainers"


def run(options: argparse.Namespace) -> int:
    """Train the model called ``options.name``, or show what can be trained."""
    if options.name is None:
        return show_plugins(GROUP, "trainer", as_json=options.json)
    trainer = find_plugin(GROUP, options.name, "trainer")
    if options.output is None:
        raise InvalidParameter("give -o FILE, where the trained model goes")
    settings = parse_settings(options.settings)
    checkpoint = Path(options.output + ".resume")
    with cancellable() as token, ProgressBar(quiet=options.quiet) as bar:
        context = run_context(options, bar, token, checkpoint_folder=checkpoint, resume=options.resume)
        data = [Path(item) for item in options.data]
        figures = trainer(data, Path(options.output), settings, context)
    shutil.rmtree(checkpoint, ignore_errors=True)
    if options.json:
        print_json({"command": "train", "name": options.name, "output": options.output, **figures})
    elif not options.quiet:
        print_table([("model", options.output), *figures.items()])
    return 0
