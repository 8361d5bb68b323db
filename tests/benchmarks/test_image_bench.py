"""``codec bench image`` measures whole files and checks what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

import codeckit
from codeckit.benchmarks.image_bench import bench

pytest.importorskip("pillow_jxl", reason="the peers need pillow-jxl-plugin: pip install codeckit[bench]")


def test_rates_are_file_bytes_of_the_same_pixels(data_folder: Path) -> None:
    settings = {"data": str(data_folder), "sets": "held-out", "presets": "fast", "images": "1"}
    rows = {(row["codec"], row["preset"]): row for row in bench(settings, codeckit.RunContext(threads=1))}
    assert {"png", "webp", "jpeg2000", "jpeg-xl", "pc"} == {codec for codec, _ in rows}
    raw_bytes = {8 * row["file_bytes"] / row["bits_per_subpixel"] for row in rows.values()}
    assert max(raw_bytes) / min(raw_bytes) < 1.001
    assert rows["pc", "fast"]["file_bytes"] < rows["png", "optimised"]["file_bytes"]


def test_unknown_sets_and_settings_are_refused(data_folder: Path) -> None:
    for settings in ({"sets": "cats"}, {"speed": "9"}, {"data": "nowhere"}, {"sets": "held-out", "peers": "gif"}):
        with pytest.raises(codeckit.InvalidParameter):
            bench({"data": str(data_folder), **settings}, codeckit.RunContext())
