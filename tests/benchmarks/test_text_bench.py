"""``codec bench text`` measures complete files, exactly, beside every peer it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeckit import RunContext
from codeckit.benchmarks.text_bench import bench
from codeckit.formats.errors import InvalidParameter

VERSE = b"".join(b"Verse %d: the %dth lamb went where verse %d went.\n" % (i, i * i % 97, i // 3) for i in range(900))


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    (tmp_path / "alice29.txt").write_bytes(VERSE)
    return tmp_path


def test_rates_are_whole_files_of_every_coder(corpora: Path) -> None:
    rows = bench({"data": str(corpora), "figures": "rate", "presets": "fast"}, RunContext())
    coders = [row["coder"] for row in rows]
    assert coders == ["gzip -9", "zstd -19", "brotli -q 11", "xz -9e", "ppmd order 16", "text fast"]
    for row in rows:
        assert row["exact"]
        assert row["bits_per_byte"] == 8 * row["file_bytes"] / len(VERSE)
        assert row["benchmark"] == "text"
        assert row["commit"]


@pytest.mark.slow
def test_start_up_is_that_of_the_command(corpora: Path) -> None:
    (row,) = bench({"data": str(corpora), "figures": "start-up", "presets": "fast"}, RunContext())
    assert row["exact"]
    assert row["encode_seconds"] > 0.05


@pytest.mark.parametrize(
    "settings", [{"figures": "speedy"}, {"presets": "slow"}, {"colour": "red"}, {"threads": "two"}]
)
def test_unknown_settings_are_named(corpora: Path, settings: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        bench({"data": str(corpora), **settings}, RunContext())


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="nowhere"):
        bench({"data": str(tmp_path / "nowhere")}, RunContext())
