"""Rows of ``codec bench gridnerv`` are those of a file that was written and decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import codeckit
from codeckit import RunContext
from codeckit.benchmarks import gridnerv_bench
from codeckit.benchmarks.gridnerv_bench import _Case, bench


@pytest.mark.slow
def test_a_row_tells_of_a_real_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, t = np.meshgrid(np.arange(32), np.arange(16), np.arange(3))
    clip = np.stack([127 + 90 * np.sin((x + 2 * t) / 9), y * 9, 60 + 20 * t], axis=-1).transpose(2, 0, 1, 3)
    np.save(tmp_path / "clip.npy", clip.astype(np.uint8))
    settings = {"grids": "8:2:2,4:2:1", "widths": "8,8", "blocks": "1,1", "epochs": 3}
    case = _Case(figure="target", name="tiny", clip="clip.npy", settings=settings)
    monkeypatch.setattr(gridnerv_bench, "_CASES", (case,))
    (row,) = bench({"clips": str(tmp_path)}, RunContext(device="cpu", threads=1))
    data = codeckit.encode(tmp_path / "clip.npy", codec="gridnerv", preset="standard", settings=settings)
    assert row["file_bytes"] == len(data)
    assert row["bpp"] == 8 * len(data) / (32 * 16 * 3)
    assert row["decode_fps"] > 0
    assert row["frames"] == 3


def test_unknown_figures_and_missing_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(codeckit.InvalidParameter, match="figures="):
        bench({"figures": "speed"}, RunContext())
    with pytest.raises(codeckit.InvalidParameter, match="does not exist"):
        bench({"figures": "target", "clips": str(tmp_path)}, RunContext())
