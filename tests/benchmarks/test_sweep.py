"""Sweeps: what they refuse, how they go on after anything that can stop them, and rates that are those of the files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codeckit.benchmarks import results as results_module
from codeckit.benchmarks.audit import audit
from codeckit.benchmarks.cells import make_plan
from codeckit.benchmarks.results import Results, export_rows, flat_row, load_results
from codeckit.benchmarks.store import Store
from codeckit.benchmarks.sweep import list_presets, load_sweep, parse_sweep, preset_path
from codeckit.formats.errors import CorruptFile, InvalidParameter, OutputFailure, UnsupportedVersion

from .conftest import SWEEP, InlineExecutor, SweepHelper, write_pictures


def outcome(results: Results) -> list[tuple[Any, ...]]:
    """Everything that must be the same however often a sweep was interrupted."""
    return [
        (row.cell, row.item, row.curve, row.settings, row.status, row.file_bytes, row.scores) for row in results.rows
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "jpeg"', 'name = "jpge"'), "no codec is called 'jpge'; did you mean 'jpeg'"),
        (('"psnr_db"', '"psnr"'), "no metric or task is called 'psnr'; did you mean 'psnr_db'"),
        (("quality = [10, 30, 60, 90] }", "qualty = [10] }"), "did you mean 'quality'"),
        (("quality = [10, 30, 60, 90] }", "quality = [101] }"), "0 to 100, got 101"),
        (('path = "pictures"\nkind = "image"', ""), "no data set is called 'waves'"),
        (("metrics =", "metrix ="), "no field 'metrix'; did you mean 'metrics'"),
        (('name = "webp"', 'name = "jpeg"'), "two curves are called 'jpeg'"),
        (('name = "webp"', 'name = "flac"\nlabel = "x"'), "flac is for audio, and the data are image"),
        (("[[codecs]]", "[[codecs]"), "not TOML"),
    ],
)
def test_what_a_sweep_does_not_understand_is_named(change: tuple[str, str], message: str, tmp_path: Path):
    write_pictures(tmp_path / "pictures", count=1)
    assert change[0] in SWEEP
    with pytest.raises(InvalidParameter, match=message):
        make_plan(
            parse_sweep(SWEEP.replace(*change, 1) if "webp" not in change[0] else SWEEP.replace(*change), base=tmp_path)
        )


def test_unknown_presets_name_the_nearest_and_known_ones_can_be_planned():
    with pytest.raises(InvalidParameter, match="did you mean 'kodak'"):
        preset_path("kodac")
    assert {"smoke", "kodak", "mpq", "digits", "video", "text", "kv"} <= set(list_presets())
    for name in list_presets():
        load_sweep(preset_path(name))


def test_finished_cells_are_never_computed_again(waves: SweepHelper):
    first = waves.run()
    assert (first.cells, first.computed, first.errors) == (24, 24, 0)
    before = outcome(waves.results())
    again = InlineExecutor()
    assert waves.run(again).computed == 0
    assert again.seen == []
    assert outcome(waves.results()) == before


def test_a_sweep_stopped_anywhere_goes_on_to_the_same_results(waves: SweepHelper, tmp_path: Path):
    waves.run()
    whole = outcome(waves.results())
    broken = SweepHelper(tmp_path / "broken")
    write_pictures(broken.folder / "pictures")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            broken.run(InlineExecutor(stop_after=1))
    assert 0 < len(broken.results().rows) < 24
    broken.run()
    assert outcome(broken.results()) == whole


@pytest.mark.slow
def test_a_sweep_killed_at_once_goes_on_to_the_same_results(waves: SweepHelper, tmp_path: Path):
    """Kill -9 of the whole process with two workers at work, then the same command, against a run left alone."""
    write_pictures(waves.folder / "pictures", count=40, side=256)
    (waves.folder / "waves.toml").write_text(SWEEP)
    command = [sys.executable, "-c", "import sys; from codeckit.cli.main import main; sys.exit(main())", "bench", "rd"]
    command += [str(waves.folder / "waves.toml"), "--workers", "2", "-q", "-o", str(waves.path)]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not waves.path.with_name("results.sqlite.files").is_dir() and started.poll() is None:
        time.sleep(0.01)
    started.kill()
    started.wait()
    done = len(waves.results().rows)
    assert done < 320
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    alone = SweepHelper(tmp_path / "alone")
    write_pictures(alone.folder / "pictures", count=40, side=256)
    alone.run()
    assert outcome(waves.results()) == outcome(alone.results())
    assert len(waves.results().rows) == 320


def test_a_new_metric_is_scored_from_the_stored_files(waves: SweepHelper):
    waves.run()
    times = {row.cell: row.encode_seconds for row in waves.results().rows}
    summary = waves.run(text=SWEEP.replace('["psnr_db"]', '["psnr_db", "gmsd"]'))
    assert summary.computed == 24
    assert summary.coding_seconds == 0
    for row in waves.results().rows:
        assert set(row.scores) == {"psnr_db", "gmsd"}
        assert row.encode_seconds == times[row.cell]


def test_a_lost_file_is_made_again(waves: SweepHelper):
    waves.run()
    row = waves.results().rows[5]
    with Store(waves.path) as store:
        (store.files / str(row.file)).unlink()
    assert waves.run().computed == 1
    assert outcome(waves.results())[5] == outcome(waves.results())[5]


def test_an_unreadable_picture_is_a_row_with_its_error(waves: SweepHelper):
    (waves.folder / "pictures" / "wave-1.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    summary = waves.run()
    assert summary.errors == 8
    by_item: dict[str, set[str]] = {}
    for row in waves.results().rows:
        by_item.setdefault(row.item, set()).add(row.status)
        if row.status == "error":
            assert "wave-1.png is not a readable picture" in str(row.reason)
            assert row.rate is None
    assert by_item == {"wave-0.png": {"ok"}, "wave-1.png": {"error"}, "wave-2.png": {"ok"}}


def test_rates_are_all_bits_of_the_files_over_all_pixels(waves: SweepHelper):
    waves.run()
    with Store(waves.path) as store:
        for row in load_results(store).rows:
            assert row.rate == 8 * os.path.getsize(store.files / str(row.file)) / (64 * 64)


def test_the_audit_agrees_with_honest_rows(waves: SweepHelper):
    waves.run()
    with Store(waves.path) as store:
        report = audit(store, load_results(store))
    assert (report.rates, report.decoded, report.problems) == (24, 8, [])


def test_the_audit_catches_bytes_taken_for_bits(waves: SweepHelper, monkeypatch: pytest.MonkeyPatch):
    """The slip of an earlier benchmark: rates eight times too small."""
    waves.run()
    monkeypatch.setattr(results_module, "rate", lambda sizes, units: sum(sizes) / sum(units))
    with Store(waves.path) as store:
        report = audit(store, load_results(store), decoded_per_point=0)
    assert len(report.problems) == 24
    assert "the row says" in report.problems[0]


@pytest.mark.parametrize("damage", ["UPDATE cells SET file_bytes = file_bytes - 40", "UPDATE scores SET value = 48.0"])
def test_the_audit_catches_rows_that_are_not_of_the_file(damage: str, waves: SweepHelper):
    waves.run()
    with Store(waves.path) as store:
        store.connection.execute(damage)
        report = audit(store, load_results(store))
    assert len(report.problems) >= 8


def test_two_sweeps_cannot_write_one_store(waves: SweepHelper):
    waves.run()
    with Store(waves.path) as store, store.writing(), pytest.raises(OutputFailure, match="another sweep is writing"):
        waves.run()


def test_results_of_a_newer_version_and_other_files_are_refused(waves: SweepHelper, tmp_path: Path):
    waves.run()
    with sqlite3.connect(waves.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UnsupportedVersion, match="format 99"):
        waves.results()
    (tmp_path / "other.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(CorruptFile, match="not a results file"):
        Store(tmp_path / "other.sqlite")
    with pytest.raises(InvalidParameter, match="does not exist"):
        Store(tmp_path / "absent.sqlite")


def test_a_full_disk_stops_the_sweep_and_keeps_what_is_done(waves: SweepHelper, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        small = SweepHelper(disk)
        (disk / "pictures").symlink_to(waves.folder / "pictures")
        with pytest.raises((OutputFailure, CorruptFile), match=r"what is done is kept|full"):
            small.run()
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        small.run()
        waves.run()
        assert [row[1:] for row in outcome(small.results())] == [row[1:] for row in outcome(waves.results())]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_rows_are_exported_whole(waves: SweepHelper, tmp_path: Path):
    pytest.importorskip("pyarrow", exc_type=ImportError)
    import pyarrow.csv
    import pyarrow.parquet

    waves.run()
    results = waves.results()
    expected = [flat_row(row, results.scorers) for row in results.rows]
    export_rows(results, tmp_path / "rows.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist() == expected
    export_rows(results, tmp_path / "rows.csv")
    table = pyarrow.csv.read_csv(tmp_path / "rows.csv").to_pylist()
    assert [row["file_bytes"] for row in table] == [row["file_bytes"] for row in expected]
    with pytest.raises(InvalidParameter, match=r"not \.xlsx"):
        export_rows(results, tmp_path / "rows.xlsx")
