"""The settings that ``codec bench vectors`` tries, and the one that serves a budget or a quality best."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..formats.errors import InvalidParameter

__all__ = [
    "Configuration",
    "Requirement",
    "choose",
    "default_grid",
    "pareto_front",
    "parse_configuration",
    "parse_size",
]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_FLOATS = ("float32", "float16", "bfloat16", "float8_e4m3", "float8_e5m2")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings of the codec ``vectors``, as ``--set`` takes them."""

    settings: Mapping[str, str]

    @property
    def label(self) -> str:
        """``dtype=int8 pca=50%``: what differs from the defaults."""
        return " ".join(f"{key}={value}" for key, value in self.settings.items())

    def command(self, source: str) -> str:
        """The command that applies it."""
        words = ["codec", "encode", source, "-o", f"{source}.ck", "--codec", "vectors"]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the best configuration must keep: a size of the file in bytes, or a mean recall@10."""

    budget_bytes: int | None = None
    min_recall: float | None = None


def default_grid(dimensions: int) -> list[Configuration]:
    """Every number format with all dimensions, half and a quarter of them, with controls for what a stage is worth."""
    formats = [{"dtype": name} for name in (*_FLOATS, "int8", "int4")]
    formats += [{"dtype": "binary", **({"rescoring_bits": str(bits)} if bits else {})} for bits in (0, 1, 2)]
    grid = [dict(row) for row in formats]
    if dimensions >= 8:
        grid += [{**row, "pca": part} for part in ("50%", "25%") for row in formats]
        half = str(dimensions // 2)
        grid += [{"dtype": name, "random_projection": half} for name in ("float32", "float8_e4m3", "int8")]
    grid.append({"dtype": "float8_e4m3", "scale": "full"})
    grid += [{"dtype": name, "calibration": "range"} for name in ("int8", "int4")]
    # transform coding: one step for all dimensions, and entropy coding finds how many bits each needs
    steps = [{"dtype": f"int{bits}", "calibration": "common"} for bits in range(8, 3, -1)]
    grid += steps + [{**row, "pca": "100%"} for row in steps]
    return [Configuration(row) for row in grid]


def parse_configuration(text: str) -> Configuration:
    """``dtype=int8 pca=50%`` as a configuration; raises :class:`InvalidParameter`."""
    settings = {}
    for word in text.split():
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise InvalidParameter(f"--config {text!r}: {word!r} is not KEY=VALUE")
        settings[key] = value
    return Configuration(settings)


def parse_size(text: str) -> int:
    """Bytes of ``256MB``, ``1.5GiB`` or ``100000``; raises :class:`InvalidParameter`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE)
    unit = found[2].upper() if found else None
    unit = {"K": "KB", "M": "MB", "G": "GB", "KI": "KIB", "MI": "MIB", "GI": "GIB"}.get(unit or "", unit)
    if found is None or unit not in _UNITS:
        raise InvalidParameter(f"--budget {text!r} is not a size such as 256MB or 1.5GiB")
    return int(float(found[1]) * _UNITS[unit])


def pareto_front(rows: Sequence[Mapping[str, Any]], quality: str = "recall_10") -> list[int]:
    """Numbers of the rows that no other row beats in both bytes and ``quality``, the smallest first."""
    order = sorted(range(len(rows)), key=lambda n: (rows[n]["bytes_per_vector"], -rows[n][quality]))
    front: list[int] = []
    for number in order:
        if not front or rows[number][quality] > rows[front[-1]][quality]:
            front.append(number)
    return front


def choose(rows: Sequence[Mapping[str, Any]], wanted: Requirement) -> int:
    """The number of the best row: the highest recall within the budget, or the smallest file that recalls enough.

    Raises :class:`InvalidParameter` where none does.
    """
    if wanted.budget_bytes is not None:
        within = [n for n, row in enumerate(rows) if row["file_bytes"] <= wanted.budget_bytes]
        if not within:
            least = min(row["file_bytes"] for row in rows)
            raise InvalidParameter(f"no file fits {wanted.budget_bytes:,} bytes; the smallest has {least:,}")
        return max(within, key=lambda n: (rows[n]["recall_10"], -rows[n]["file_bytes"]))
    enough = [n for n, row in enumerate(rows) if row["recall_10"] >= (wanted.min_recall or 0.0)]
    if not enough:
        most = max(row["recall_10"] for row in rows)
        raise InvalidParameter(f"no file has a recall@10 of {wanted.min_recall}; the best has {most:.4f}")
    return min(enough, key=lambda n: (rows[n]["file_bytes"], -rows[n]["recall_10"]))
