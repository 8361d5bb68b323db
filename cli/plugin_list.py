"""Showing which trainers and benchmarks are installed."""

from __future__ import annotations

from ..codecs.plugins import load_plugin, plugin_provider, plugins_by_name
from ..formats.errors import ExternalFailure
from .output import print_json, print_table

__all__ = ["show_plugins"]


def show_plugins(group: str, what: str, *, as_json: bool) -> int:
    """List the entry points of ``group`` with the first line of their docstring."""
    rows = []
    for name, points in plugins_by_name(group).items():
        try:
            loaded = load_plugin(points[0], what)
            text = getattr(loaded, "summary", None) or (loaded.__doc__ or "").strip().partition("\n")[0]
        except ExternalFailure as error:
            text = str(error)
        rows.append((name, plugin_provider(points[0]), text))
    if as_json:
        for name, provider, text in rows:
            print_json({what: name, "provider": provider, "summary": text})
    elif rows:
        print_table(rows, (what, "provider", "what it does"))
    else:
        print(f"no {what} is installed")
    return 0
