"""``codec encode --executor``: many files on many workers, the same bytes as one after another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_files_from_workers_are_those_of_one_process(run_codec: Callable[..., Any], tmp_path: Path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(4):
        (texts / f"{number}.txt").write_text("the quick brown fox " * (number + 3))
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    words = ["--codec", "text"]
    assert run_codec("encode", texts, "--output-dir", alone, *words).returncode == 0
    done = run_codec("encode", texts, "--output-dir", shared, *words, "--executor", "local", "--workers", 2, "--json")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in alone.iterdir())
    assert sorted(path.name for path in shared.iterdir()) == names
    for name in names:
        assert (shared / name).read_bytes() == (alone / name).read_bytes()
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 4
    again = run_codec("encode", texts, "--output-dir", shared, *words, "--executor", "local")
    assert again.returncode == 1
    assert b"pass -f to replace it" in again.stderr


def test_a_failed_file_is_named_and_the_others_are_done(run_codec: Callable[..., Any], tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "bad.png").write_bytes(b"\x89PNG nonsense")
    (pictures / "good.pgm").write_bytes(b"P5 8 8 255\n" + bytes(range(64)))
    done = run_codec("encode", pictures, "--output-dir", tmp_path / "out", "--codec", "pc", "--executor", "local")
    assert done.returncode == 1
    assert b"bad.png" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.pgm.ck"]
