"""Arguments that several commands share."""

from __future__ import annotations

import argparse

__all__ = ["add_run_options", "add_settings"]


def add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="may be repeated",
    )


def add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    command.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    command.add_argument("--json", action="store_true", help="one JSON object per file on standard output")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress, no table")
    command.add_argument("-v", "--verbose", action="store_true", help="show the traceback of errors")
