"""Tables in the documentation are made from measured rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codeckit import InvalidParameter
from codeckit.benchmarks.tables import fill_tables

REPOSITORY = Path(__file__).resolve().parents[2]
MARKER = "<!-- table a.jsonl key=codec columns=codec,bpp:.2f=rate where=kind:x -->\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = [
        {"kind": "x", "codec": "one", "bpp": 1.0},
        {"kind": "y", "codec": "one", "bpp": 9.0},
        {"kind": "x", "codec": "two", "bpp": 0.125},
        {"kind": "x", "codec": "one", "bpp": 0.5},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_the_latest_row_of_each_key_is_shown(results: Path):
    made = fill_tables(f"before\n{MARKER}stale\n<!-- end table -->\nafter\n", results)
    table = "| codec | rate |\n| --- | --- |\n| one | 0.50 |\n| two | 0.12 |\n"
    assert made == f"before\n{MARKER}{table}<!-- end table -->\nafter\n"
    assert fill_tables(made, results) == made


@pytest.mark.parametrize(
    "marker", [MARKER.replace("a.jsonl", "b.jsonl"), MARKER.replace("kind:x", "kind:z"), MARKER.replace("key=", "k=")]
)
def test_a_table_without_rows_is_an_error(results: Path, marker: str):
    with pytest.raises(InvalidParameter):
        fill_tables(f"{marker}<!-- end table -->", results)


@pytest.mark.parametrize(
    "path", [Path("README.md"), *sorted(path.relative_to(REPOSITORY) for path in REPOSITORY.glob("docs/*.md"))], ids=str
)
def test_the_documentation_shows_the_latest_rows(path: Path):
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    assert fill_tables(text) == text, f"run: python -m codeckit.benchmarks.tables {path}"
