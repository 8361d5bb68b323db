"""Looking up entry points: codecs, trainers and benchmarks, ours and those of other distributions."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..formats.errors import ExternalFailure, InvalidParameter

__all__ = [
    "find_plugin",
    "load_plugin",
    "nearest",
    "plugin_provider",
    "plugins_by_name",
    "refuse_duplicates",
]


def plugins_by_name(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of ``group`` by name; a name with several values is a conflict."""
    return _found_on(tuple(sys.path), group)


@lru_cache(maxsize=32)
def _found_on(search_path: tuple[str, ...], group: str) -> dict[str, list[EntryPoint]]:
    """Cached by search path: scanning every distribution takes milliseconds, too long for each file of a pipeline."""
    grouped: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=group):
        # the same distribution can be found twice on sys.path (an editable install and its folder)
        grouped.setdefault(point.name, {})[plugin_provider(point), point.value] = point
    return {name: list(points.values()) for name, points in sorted(grouped.items())}


def find_plugin(group: str, name: str, what: str) -> Callable[..., Any]:
    """Load the one entry point called ``name``; ``what`` is the word for it in messages.

    Raises :class:`InvalidParameter` (unknown, with the nearest name) or :class:`ExternalFailure` (broken).
    """
    known = plugins_by_name(group)
    if name not in known:
        raise InvalidParameter(f"no {what} is called {name!r}{nearest(name, known)}")
    refuse_duplicates(what, name, known[name])
    loaded: Callable[..., Any] = load_plugin(known[name][0], what)
    return loaded


def load_plugin(point: EntryPoint, what: str) -> Any:
    """Import what ``point`` names; any failure becomes :class:`ExternalFailure`."""
    try:
        return point.load()
    except Exception as error:  # a plug-in may fail in any way, and must not take the others down
        raise ExternalFailure(
            f"{what} {point.name!r} of {plugin_provider(point)} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def refuse_duplicates(what: str, name: str, points: list[EntryPoint]) -> None:
    """Raise :class:`ExternalFailure` when ``name`` is registered more than once."""
    if len(points) > 1:
        providers = ", ".join(f"{plugin_provider(point)} ({point.value})" for point in points)
        raise ExternalFailure(f"{what} {name!r} is registered twice: {providers}; uninstall one of them")


def plugin_provider(point: EntryPoint) -> str:
    """The distribution and version an entry point comes from."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown distribution"


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, or all of them."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are {', '.join(known)}" if known else "; none is installed"
