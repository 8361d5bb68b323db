"""One golden file of every codec that has some: the smallest."""

from __future__ import annotations

from pathlib import Path

from codeckit.formats.reader import ContainerReader

TESTS = Path(__file__).resolve().parents[1]


def smallest_of_each_codec() -> list[Path]:
    chosen: dict[str, Path] = {}
    for path in sorted(TESTS.glob("*/golden/*.ck"), key=lambda path: (path.stat().st_size, path.name)):
        with ContainerReader(path) as reader:
            chosen.setdefault(reader.header.codec, path)
    return sorted(chosen.values())
