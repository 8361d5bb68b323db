"""From a sweep to cells: every item at every point of every curve, named by a hash of all that decides its result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..codecs.plugins import nearest
from ..formats.errors import ExternalFailure, InvalidParameter, UnsupportedInput
from .items import Item
from .peers import ORIGINAL, find_peer, peer_parameters
from .scorers import Scorer, find_scorer
from .sweep import CodecEntry, Sweep

__all__ = ["Cell", "Plan", "Point", "Skip", "make_plan", "plain_parameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A codec at one setting. ``settings`` is what the sweep says, ``params`` every parameter as plain data."""

    codec: str
    curve: str
    preset: str | None
    settings: Mapping[str, Any]
    params: Mapping[str, Any]
    version: str
    suffix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One item at one point; ``key`` is a SHA-256 in hexadecimal."""

    key: str
    item: Item
    input_hash: str
    point: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Something of the sweep that cannot be done here: a ``codec``, a ``scorer`` or ``data``, and why."""

    what: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every cell of a sweep in order, the scorers by name, and what is left out."""

    cells: Sequence[Cell]
    scorers: Mapping[str, Scorer]
    versions: Mapping[str, str] = field(default_factory=dict)
    skips: Sequence[Skip] = ()


def make_plan(sweep: Sweep) -> Plan:
    """Check every name and setting of ``sweep`` and list its cells.

    Raises :class:`InvalidParameter` for whatever is unknown or can never be used.
    """
    skips: list[Skip] = []
    items: list[Item] = []
    for data in sweep.data:
        found = data.items()
        if not found:
            skips.append(Skip(what="data", name=data.name, reason="no file of it is here; set CODECKIT_DATA"))
        items += found
    scorers, versions = _scorers(sweep, skips)
    entries = list(sweep.codecs)
    if sweep.tasks and all(entry.name != ORIGINAL for entry in entries):
        entries.insert(0, CodecEntry(name=ORIGINAL, label=ORIGINAL))
    kinds = {item.kind for item in items}
    points = [point for entry in entries for point in _points(entry, kinds, skips)]
    hashes = {id(item): _input_hash(item) for item in items}
    cells = []
    for item in items:
        for kind, point in points:
            if kind in (item.kind, "any"):
                input_hash = hashes[id(item)]
                cells.append(Cell(key=_key(input_hash, point), item=item, input_hash=input_hash, point=point))
    return Plan(cells=cells, scorers=scorers, versions=versions, skips=skips)


def plain_parameters(params: Any) -> dict[str, Any]:
    """Every field of a parameter object as plain data; a file named by one is represented by its hash too."""
    plain: dict[str, Any] = {}
    for entry in dataclasses.fields(params):
        value = getattr(params, entry.name)
        plain[entry.name] = value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
        if isinstance(value, (str, Path)) and value and Path(value).is_file():
            plain[f"{entry.name} sha256"] = hashlib.sha256(Path(value).read_bytes()).hexdigest()
    return plain


def _scorers(sweep: Sweep, skips: list[Skip]) -> tuple[dict[str, Scorer], dict[str, str]]:
    scorers: dict[str, Scorer] = {}
    versions: dict[str, str] = {}
    for names, is_task in ((sweep.metrics, False), (sweep.tasks, True)):
        for name in names:
            scorer = find_scorer(name)
            if scorer.is_task != is_task:
                listed = "tasks" if scorer.is_task else "metrics"
                raise InvalidParameter(f"{name} belongs under {listed}")
            try:
                versions[name] = scorer.version()
            except ExternalFailure as missing:
                skips.append(Skip(what="scorer", name=name, reason=str(missing)))
                continue
            scorers[name] = scorer
    return scorers, versions


def _points(entry: CodecEntry, kinds: set[str], skips: list[Skip]) -> list[tuple[str, Point]]:
    try:
        peer = find_peer(entry.name)
    except ExternalFailure as broken:
        skips.append(Skip(what="codec", name=entry.label, reason=str(broken)))
        return []
    if kinds and peer.kind not in kinds and peer.kind != "any":
        raise InvalidParameter(f"codec {entry.name} is for {peer.kind}, and the data are {', '.join(sorted(kinds))}")
    if entry.preset is not None and entry.preset not in peer.presets:
        raise InvalidParameter(
            f"codec {entry.name}: no preset is called {entry.preset!r}{nearest(entry.preset, peer.presets)}"
        )
    parameters = [(settings, peer_parameters(peer, entry.preset, settings)) for settings in entry.points()]
    try:
        version = peer.version()
    except ExternalFailure as missing:
        skips.append(Skip(what="codec", name=entry.label, reason=str(missing)))
        return []
    return [
        (
            peer.kind,
            Point(
                codec=entry.name,
                curve=entry.label,
                preset=entry.preset,
                settings=settings,
                params=plain_parameters(params),
                version=version,
                suffix=peer.suffix,
            ),
        )
        for settings, params in parameters
    ]


def _input_hash(item: Item) -> str:
    try:
        return item.content_hash()
    except UnsupportedInput:
        # the worker meets the same error and makes a row of it
        return hashlib.sha256(f"unreadable {item.path}".encode()).hexdigest()


def _key(input_hash: str, point: Point) -> str:
    named = {"input": input_hash, "codec": point.codec, "version": point.version, "params": dict(point.params)}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
