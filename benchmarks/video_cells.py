"""The cells of ``codec bench video``: one setting of one codec on one clip, with a name that says all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..formats.errors import InvalidParameter
from .data_sets import list_items
from .items import Item
from .peers import find_peer
from .video_presets import ClipChoice, Curve, VideoPreset

__all__ = ["VideoCell", "plan_cells"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoCell:
    """One measurement. ``settings`` are everything that is handed to the codec; ``cpu_seconds`` replaces ``epochs``."""

    item: Item
    curve: Curve
    point: Mapping[str, str]
    settings: Mapping[str, str]
    device: str
    threads: int
    cpu_seconds: float | None = None
    key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = {
            "input": self.item.content_hash(),
            "codec": self.curve.codec,
            "version": find_peer(self.curve.codec).version(),
            "preset": self.curve.preset,
            "settings": dict(self.settings),
            "device": self.device,
            "threads": self.threads,
            "cpu_seconds": self.cpu_seconds,
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        object.__setattr__(self, "key", digest[:24])

    @property
    def name(self) -> str:
        """For people."""
        point = " ".join(f"{name}={value}" for name, value in self.point.items())
        return f"{self.item.data_set} {self.item.options['size']} {self.curve.label} {point}"

    def job(self, **more: Any) -> dict[str, Any]:
        """What the measuring process needs to know."""
        return {
            "path": str(self.item.path),
            "options": dict(self.item.options),
            "codec": self.curve.codec,
            "fitted": self.curve.fitted,
            "preset": self.curve.preset,
            "settings": dict(self.settings),
            "device": self.device,
            "threads": self.threads,
            **more,
        }


def plan_cells(
    preset: VideoPreset,
    *,
    clips: frozenset[str],
    codecs: frozenset[str],
    device: str,
    threads: int,
    cpu_seconds: float | None,
) -> Iterator[VideoCell]:
    """The cells of a preset, of the named clips and of the named codecs or curves only where names are given.

    Raises :class:`InvalidParameter` for names that the preset does not have, and where a clip is not there.
    """
    for wanted, known in (
        (clips, {clip.data_set for clip in preset.clips}),
        (codecs, {name for curve in preset.curves for name in (curve.codec, curve.label)}),
    ):
        if not wanted <= known:
            raise InvalidParameter(f"{', '.join(sorted(wanted - known))}: this preset has {', '.join(sorted(known))}")
    for clip in preset.clips:
        if clips and clip.data_set not in clips:
            continue
        item = _item(clip)
        for curve, point in _in_breadth(preset.curves):
            if codecs and not codecs & {curve.codec, curve.label}:
                continue
            budget = cpu_seconds if curve.fitted else None
            yield VideoCell(
                item=item,
                curve=curve,
                point=point,
                settings=_settings(clip, curve, point, budget),
                device=device,
                threads=threads,
                cpu_seconds=budget,
            )


def _in_breadth(curves: Sequence[Curve]) -> Iterator[tuple[Curve, Mapping[str, str]]]:
    """The first point of every curve, then the second: a sweep that ends early has something of each codec."""
    for number in range(max(len(curve.points) for curve in curves)):
        yield from ((curve, curve.points[number]) for curve in curves if number < len(curve.points))


def _settings(clip: ClipChoice, curve: Curve, point: Mapping[str, str], budget: float | None) -> dict[str, str]:
    settings = {**curve.settings, **point}
    if curve.fitted:
        settings = {**settings, "size": clip.size, "frames": clip.frames, "audio": "drop"}
        if budget is None:
            settings["epochs"] = str(clip.epochs)
    return settings


def _item(clip: ClipChoice) -> Item:
    options = {"size": clip.size, "frames": clip.frames}
    items = list_items(clip.data_set, options=options)
    if not items or not Path(items[0].path).is_file():
        raise InvalidParameter(f"the clip {clip.data_set} is not here; set CODECKIT_DATA to the folder of the data")
    return items[0]
