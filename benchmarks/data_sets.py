"""Named data sets and folders of one's own, as lists of items.

Named sets are looked for in the folder ``CODECKIT_DATA``, else in ``shared/data`` beside the repository.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..codecs.plugins import nearest
from ..formats.errors import InvalidParameter
from .items import Item

__all__ = ["DATA_SETS", "DataSet", "data_root", "list_items", "named_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Where a named set lies under the data folder; ``labels`` names how the label of an item is found."""

    kind: str
    folder: str
    pattern: str
    labels: str | None = None


DATA_SETS: Mapping[str, DataSet] = {
    "kodak": DataSet(kind="image", folder="images/kodak", pattern="*.png"),
    "imagenet-eval": DataSet(kind="image", folder="images/imagenet-eval", pattern="*.JPEG", labels="csv"),
    # index 0 to 4 of each digit and speaker is the official test split
    "spoken-digits": DataSet(kind="audio", folder="audio/fsdd", pattern="*_[0-4].wav", labels="first character"),
    "bigbuckbunny": DataSet(kind="video", folder="video", pattern="bigbuckbunny.mp4"),
    "carphone": DataSet(kind="video", folder="video", pattern="carphone_pristine.mp4"),
    "bikes": DataSet(kind="video", folder="video", pattern="bikes.mp4"),
    "text": DataSet(kind="bytes", folder="text/test", pattern="*"),
    # caches are recorded from these chats when they are first wanted
    "kv-caches": DataSet(kind="tensors", folder="kv", pattern="longchat.jsonl"),
}


def data_root() -> Path:
    """The data folder; it need not exist."""
    named = os.environ.get("CODECKIT_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def named_file(relative: str) -> Path | None:
    """A file under the data folder, or None where it is absent."""
    path = data_root() / relative
    return path if path.is_file() else None


def list_items(
    name: str,
    *,
    path: str | None = None,
    kind: str | None = None,
    limit: int | None = None,
    options: Mapping[str, str] | None = None,
    labels: str | None = None,
    base: Path | None = None,
) -> list[Item]:
    """The items of a named set, or of ``path`` (a file, a folder or a pattern, relative to ``base``) of ``kind``.

    ``labels``, for a path, is a CSV file with columns ``file`` and ``class_index``. ``limit`` keeps that many, spread
    evenly over the sorted names. An empty list means that the data is not here.

    Raises :class:`InvalidParameter` for a name that is not known.
    """
    if path is not None:
        if kind is None:
            raise InvalidParameter(f"data set {name}: a path needs its kind")
        root = base or Path()
        known = _csv_labels(root / labels) if labels else {}
        items = [
            Item(data_set=name, name=file.name, kind=kind, path=file, label=known.get(file.name), options=options or {})
            for file in _matching(root / path)
        ]
    elif name not in DATA_SETS:
        raise InvalidParameter(f"no data set is called {name!r}{nearest(name, DATA_SETS)}; or give path= and kind=")
    else:
        items = list(_named_items(name, DATA_SETS[name], options or {}))
    if limit is not None and limit < 1:
        raise InvalidParameter(f"data set {name}: limit must be at least 1, got {limit}")
    if limit is None or limit >= len(items):
        return items
    return [items[position * len(items) // limit] for position in range(limit)]


def _named_items(name: str, data_set: DataSet, options: Mapping[str, str]) -> Iterator[Item]:
    folder = data_root() / data_set.folder
    labels = _csv_labels(folder / "labels.csv") if data_set.labels == "csv" else {}
    files = sorted(folder.glob(data_set.pattern))
    if name == "kv-caches":
        from .cache_items import recorded_caches

        files = [cache for chats in files for cache in recorded_caches(chats)]
    for file in files:
        label = file.name[0] if data_set.labels == "first character" else labels.get(file.name)
        yield Item(data_set=name, name=file.name, kind=data_set.kind, path=file, label=label, options=options)


def _csv_labels(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if not {"file", "class_index"} <= set(rows.fieldnames or ()):
            raise InvalidParameter(f"{path} needs the columns file and class_index")
        return {row["file"]: row["class_index"] for row in rows}


def _matching(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
    if path.exists():
        return [path]
    return sorted(item for item in path.parent.glob(path.name) if item.is_file())
