"""The report, looked at in a real browser; and differences between two results."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codeckit.benchmarks.diff import compare, parse_percent, regressions
from codeckit.benchmarks.report import write_report
from codeckit.benchmarks.results import load_results
from codeckit.benchmarks.store import Store
from codeckit.formats.errors import InvalidParameter

from .browser import Browser
from .conftest import SWEEP, SweepHelper, write_pictures

COUNT_MARKS = "return document.querySelectorAll('#plot circle.mark').length"


def inked(png: bytes) -> float:
    """The share of a screenshot that is not of its most frequent colour."""
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("L"))
    return 1 - np.bincount(pixels.ravel()).max() / pixels.size


def test_the_page_is_whole_and_its_plots_lie_beside_it(waves: SweepHelper, tmp_path: Path):
    waves.run()
    with Store(waves.path) as store:
        written = write_report(store, load_results(store), tmp_path / "report.html", resamples=50)
    page = written[0].read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']https?:|@import|url\(http", page)
    assert [path.name for path in written[1:]] == ["report-waves-psnr-db.png"]
    with Image.open(written[1]) as plot:
        assert plot.size == (840, 540)


@pytest.mark.slow
def test_a_person_can_use_the_report_at_desktop_and_phone_width(waves: SweepHelper, tmp_path: Path):
    (waves.folder / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    waves.run(text=SWEEP.replace('["psnr_db"]', '["psnr_db", "gmsd"]'))
    with Store(waves.path) as store:
        write_report(store, load_results(store), tmp_path / "report.html", resamples=50, plots=False)
    with Browser(tmp_path) as browser:
        browser.resize(1280, 900)
        browser.open(tmp_path / "report.html")
        assert browser.run(COUNT_MARKS) == 8
        assert "24 of 32 cells done, 8 errors" in browser.run("return document.body.innerText")
        browser.click("#legend button:nth-child(2)")
        assert browser.run(COUNT_MARKS) == 4
        browser.click("#legend button:nth-child(2)")
        browser.click("#pareto")
        assert browser.run("return document.querySelectorAll('#plot .front').length") == 1
        before = browser.run("return document.querySelector('#plot svg').getAttribute('aria-label')")
        browser.run(
            "const s = document.getElementById('scorer'); s.value = 'gmsd'; s.dispatchEvent(new Event('change'))"
        )
        after = browser.run("return document.querySelector('#plot svg').getAttribute('aria-label')")
        assert (before, after) == ("PSNR against rate", "GMSD against rate")
        assert browser.run("return document.querySelectorAll('#bd tbody tr').length") == 2
        assert browser.run("return document.querySelectorAll('#worst img').length") == 3 * 3
        assert browser.run("return [...document.images].every((one) => one.complete && one.naturalWidth > 0)")
        browser.run(
            "const s = document.getElementById('search'); s.value = 'webp'; s.dispatchEvent(new Event('input'))"
        )
        assert browser.run("return document.querySelectorAll('#rows tbody tr').length") == 12
        assert "is not a readable picture" in browser.run("return document.getElementById('errors').innerText")
        assert inked(browser.screenshot(tmp_path / "desktop.png")) > 0.01
        browser.resize(500, 844)
        browser.run("window.dispatchEvent(new Event('resize'))")
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.run(COUNT_MARKS) == 8
        assert inked(browser.screenshot(tmp_path / "phone.png")) > 0.01
        assert browser.problems() == []


@pytest.mark.slow
def test_ten_thousand_rows_open_in_two_seconds(waves: SweepHelper, tmp_path: Path):
    waves.run()
    with Store(waves.path) as store:
        multiply_items(store, 10_000 // 24 + 1)
        results = load_results(store)
        assert len(results.rows) >= 10_000
        write_report(store, results, tmp_path / "large.html", resamples=20, plots=False)
    assert (tmp_path / "large.html").stat().st_size < 10_000_000
    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "large.html")
        assert browser.run(COUNT_MARKS) == 8
        timing = browser.run(
            "const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd - t.startTime"
        )
        assert timing < 2000


def multiply_items(store: Store, times: int) -> None:
    """Repeat every row under other item names, as if the data set were larger."""
    ask = store.connection.execute
    ask("CREATE TEMP TABLE repeated AS WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < ?) "
        "SELECT k FROM n", (times - 1,))  # fmt: skip
    columns = [row[1] for row in ask("PRAGMA table_info(cells)")]
    values = ", ".join({"cell": "cell || k", "item": "item || k"}.get(name, name) for name in columns)
    ask(f"INSERT INTO cells SELECT {values} FROM cells, repeated")
    ask("INSERT INTO members SELECT sweep, cell || k, curve, settings, position FROM members, repeated")
    ask("INSERT INTO scores SELECT cell || k, scorer, version, value, detail, seconds, reason FROM scores, repeated")


def test_a_difference_is_found_and_judged_by_its_direction(waves: SweepHelper, tmp_path: Path):
    waves.run()
    before = waves.results()
    assert regressions(compare(before, before), 0.0) == []
    with Store(waves.path) as store:
        store.connection.execute("UPDATE cells SET file_bytes = file_bytes * 1.02 WHERE codec = 'webp'")
        store.connection.execute("UPDATE scores SET value = value + 1")
    differences = compare(before, waves.results())
    worse = regressions(differences, 1.0)
    assert {(one.curve, one.figure) for one in worse} == {("webp", "rate")}
    assert regressions(differences, 3.0) == []
    assert all(one.worse_percent < 0 for one in differences if one.figure == "psnr_db")


def test_results_over_other_items_are_not_compared(waves: SweepHelper, tmp_path: Path):
    waves.run()
    other = SweepHelper(tmp_path / "other")
    write_pictures(other.folder / "pictures", count=2)
    other.run()
    with pytest.raises(InvalidParameter, match="3 items before and 2 after"):
        compare(waves.results(), other.results())


def test_percentages_are_read_with_and_without_their_sign():
    assert (parse_percent("1%"), parse_percent("0.5")) == (1.0, 0.5)
    with pytest.raises(InvalidParameter, match="not a percentage"):
        parse_percent("one")
