"""A sweep: what is compressed, by which codecs at which settings, and what is scored; read from TOML.

::

    metrics = ["psnr_db", "ms_ssim"]
    tasks = ["mobilenet-v2"]
    timing_repeats = 3                      # encode and decode times are medians of so many

    [[data]]
    name = "kodak"                          # a named set, or any name with path = "my/*.png" and kind = "image"
    limit = 8                               # so many items, spread evenly
    options = { size = "320x160" }          # how items are read (video: size, frames; bytes: first_bytes)

    [[codecs]]
    name = "jpeg"
    label = "JPEG 4:2:0"                    # names the curve
    preset = "default"
    settings = { quality = [5, 10, 25] }    # lists are swept: every combination is one point of the curve

Codecs meet the data of their own kind.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..codecs.plugins import nearest
from ..formats.errors import InvalidParameter
from .data_sets import list_items
from .items import Item

__all__ = ["CodecEntry", "DataEntry", "Sweep", "list_presets", "load_sweep", "parse_sweep", "preset_path"]

PRESETS = Path(__file__).resolve().parent / "presets"
_TOP = {"metrics", "tasks", "timing_repeats", "data", "codecs"}
_DATA = {"name", "path", "kind", "limit", "options", "labels"}
_CODEC = {"name", "label", "preset", "settings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataEntry:
    """One data set of a sweep; ``base`` is the folder that its path is relative to."""

    name: str
    path: str | None = None
    kind: str | None = None
    limit: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    labels: str | None = None
    base: Path = Path()

    def items(self) -> list[Item]:
        return list_items(
            self.name,
            path=self.path,
            kind=self.kind,
            limit=self.limit,
            options=self.options,
            labels=self.labels,
            base=self.base,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecEntry:
    """One curve of a sweep: a codec and the points at which it is used."""

    name: str
    label: str
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the swept settings, in the order they are written."""
        lists = [value if isinstance(value, list) else [value] for value in self.settings.values()]
        return [dict(zip(self.settings, values, strict=True)) for values in itertools.product(*lists)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A whole sweep; see the module's text for its fields."""

    data: Sequence[DataEntry]
    codecs: Sequence[CodecEntry]
    metrics: Sequence[str] = ()
    tasks: Sequence[str] = ()
    timing_repeats: int = 1


def list_presets() -> list[str]:
    """The names of the sweeps that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_path(name: str) -> Path:
    """The file of the sweep called ``name``; raises :class:`InvalidParameter` with the nearest name."""
    if name not in list_presets():
        raise InvalidParameter(f"no sweep is called {name!r}{nearest(name, list_presets())}")
    return PRESETS / f"{name}.toml"


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file; raises :class:`InvalidParameter` for what it does not understand."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"{path} cannot be read as a sweep: {error}") from error
    try:
        return parse_sweep(text, base=path.parent)
    except InvalidParameter as error:
        raise InvalidParameter(f"{path}: {error}") from error


def parse_sweep(text: str, *, base: Path = Path()) -> Sweep:
    """A sweep from TOML; paths in it are relative to ``base``."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidParameter(f"not TOML: {error}") from error
    _refuse_unknown("the sweep", table, _TOP)
    repeats = _typed(table, "timing_repeats", int, 1)
    if repeats < 1:
        raise InvalidParameter(f"timing_repeats must be at least 1, got {repeats}")
    sweep = Sweep(
        data=[_data_entry(entry, base) for entry in _tables(table, "data")],
        codecs=[_codec_entry(entry) for entry in _tables(table, "codecs")],
        metrics=_names(table, "metrics"),
        tasks=_names(table, "tasks"),
        timing_repeats=repeats,
    )
    labels = [entry.label for entry in sweep.codecs]
    for label in labels:
        if labels.count(label) > 1:
            raise InvalidParameter(f"two curves are called {label!r}; give one of them a label")
    return sweep


def _data_entry(table: Mapping[str, Any], base: Path) -> DataEntry:
    _refuse_unknown("[[data]]", table, _DATA)
    options = {name: str(value) for name, value in _typed(table, "options", dict, {}).items()}
    return DataEntry(
        name=_required(table, "[[data]]"),
        path=_typed(table, "path", str, None),
        kind=_typed(table, "kind", str, None),
        limit=_typed(table, "limit", int, None),
        labels=_typed(table, "labels", str, None),
        options=options,
        base=base,
    )


def _codec_entry(table: Mapping[str, Any]) -> CodecEntry:
    _refuse_unknown("[[codecs]]", table, _CODEC)
    name = _required(table, "[[codecs]]")
    settings = _typed(table, "settings", dict, {})
    for setting, value in settings.items():
        if value == []:
            raise InvalidParameter(f"codec {name}: {setting} has no value")
    return CodecEntry(
        name=name,
        label=_typed(table, "label", str, name),
        preset=_typed(table, "preset", str, None),
        settings=settings,
    )


def _tables(table: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = table.get(name, [])
    if not isinstance(found, list) or not found or not all(isinstance(entry, dict) for entry in found):
        raise InvalidParameter(f"the sweep needs at least one [[{name}]]")
    return found


def _names(table: Mapping[str, Any], name: str) -> list[str]:
    found = table.get(name, [])
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise InvalidParameter(f"{name} must be a list of names")
    return list(dict.fromkeys(found))


def _required(table: Mapping[str, Any], where: str) -> str:
    name = _typed(table, "name", str, None)
    if not name:
        raise InvalidParameter(f"{where} needs a name")
    return str(name)


def _typed(table: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = table.get(name, default)
    if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
        raise InvalidParameter(f"{name} must be of type {kind.__name__}, not {value!r}")
    return value


def _refuse_unknown(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in table:
        if name not in known:
            raise InvalidParameter(f"{where} has no field {name!r}{nearest(name, known)}")
