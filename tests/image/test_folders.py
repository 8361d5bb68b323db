"""Many pictures at once: the bytes each would have alone, whatever happens to the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import codeckit


@pytest.fixture
def folder(data_folder: Path, tmp_path: Path) -> Path:
    """Crops of a photograph in two sizes and three modes, a large one, a 16-bit one, an empty and a cut file."""
    result = tmp_path / "photos"
    result.mkdir()
    file = sorted((data_folder / "images" / "kodak").glob("*.png"))[6]
    photograph = Image.open(file).convert("RGB")
    for number in range(3):
        photograph.crop((50 * number, 20, 50 * number + 48, 60)).save(result / f"a{number}.png")
        photograph.crop((50 * number, 20, 50 * number + 31, 60)).convert("L").save(result / f"b{number}.png")
    photograph.crop((0, 0, 40, 30)).convert("RGBA").save(result / "c.png")
    photograph.crop((0, 0, 420, 320)).save(result / "large.png")
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(result / "deep.png")
    (result / "empty.png").write_bytes(b"")
    (result / "cut.png").write_bytes((result / "a0.png").read_bytes()[:500])
    return result


def test_bytes_are_those_of_each_picture_alone_and_bad_files_stop_nothing(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.iterdir())
    jobs = [(file, tmp_path / f"{file.name}.ck") for file in files]
    outcomes = list(codeckit.encode_many(jobs, codec="pc", preset="fast", verify=True))
    for (file, output), outcome in zip(jobs, outcomes, strict=True):
        if file.stem in ("empty", "cut"):
            assert isinstance(outcome, codeckit.CorruptFile)
            assert not output.exists()
            continue
        assert isinstance(outcome, codeckit.EncodeReport), file.name
        assert output.read_bytes() == codeckit.encode(file, codec="pc", preset="fast")
        assert outcome.output_bytes == output.stat().st_size
    assert not list(tmp_path.glob("*.ck-tmp"))


def test_a_group_that_fails_as_a_whole_stops_no_other_group(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codeckit import batch_encoding
    from codeckit.codecs.image.photo_codec import PcCodec

    honest = PcCodec.encode_together
    groups = []

    def encode_together(self: Any, sources: Any, *rest: Any, **more: Any) -> Any:
        groups.append(len(sources))
        if len(groups) == 1:
            raise MemoryError
        return honest(self, sources, *rest, **more)

    monkeypatch.setattr(batch_encoding, "TOGETHER", 2)
    monkeypatch.setattr(PcCodec, "encode_together", encode_together)
    jobs = [(folder / name, tmp_path / f"{name}.ck") for name in ("a0.png", "a1.png", "b0.png", "b1.png")]
    outcomes = list(codeckit.encode_many(jobs, codec="pc", preset="fast"))
    assert [isinstance(outcome, codeckit.EncodeReport) for outcome in outcomes] == [False, False, True, True]
    assert all(isinstance(outcome, codeckit.CodecError) for outcome in outcomes[:2])
    assert [output.exists() for _, output in jobs] == [False, False, True, True]


def test_the_command_reports_bad_files_and_resumes(folder: Path, tmp_path: Path) -> None:
    (folder / "large.png").unlink()
    (folder / "notes.txt").write_text("not a picture")
    words = ["encode", folder, "--output-dir", tmp_path / "out", "--json", "--resume"]
    done = _command(*words)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert {Path(one["input"]).name for one in reports if "error" in one} == {"empty.png", "cut.png"}
    assert next(one for one in reports if one["input"].endswith("notes.txt"))["codec"] == "text"
    assert len(list((tmp_path / "out").iterdir())) == 9
    before = (tmp_path / "out" / "c.png.ck").stat().st_mtime_ns
    (folder / "cut.png").write_bytes((folder / "a0.png").read_bytes())
    again = _command(*words)
    assert "cut.png" not in again.stderr
    assert (tmp_path / "out" / "c.png.ck").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "cut.png.ck").read_bytes() == (tmp_path / "out" / "a0.png.ck").read_bytes()


def _command(*words: object) -> subprocess.CompletedProcess[str]:
    program = "import sys; from codeckit.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
