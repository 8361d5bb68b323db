"""The command line on clips that are none, or odd ones: a clear message, the right exit code, nothing left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

RunCodec = Callable[..., "subprocess.CompletedProcess[bytes]"]
FAST = ("--set", "epochs=1", "--set", "model_size=none", "--set", "encoder_width=4", "--set", "lower_width=2")


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_no_frames(path: Path) -> None:
    path.write_bytes(b"YUV4MPEG2 W4 H2 F30:1 Ip A1:1 C444\n")


def write_text(path: Path) -> None:
    path.write_text("not a film\n" * 100)


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (write_nothing, b"is empty"),
        (write_no_frames, b"without a single frame"),
        (write_text, b"not a media file"),
        (make_folder, b"directory without pictures"),
    ],
)
def test_what_is_no_clip_is_refused(
    run_codec: RunCodec, tmp_path: Path, make: Callable[[Path], None], message: bytes
) -> None:
    source = tmp_path / "clip.y4m"
    make(source)
    done = run_codec("encode", source, "-o", tmp_path / "clip.ck", "--codec", "hnerv")
    assert done.returncode in (3, 4)
    assert message in done.stderr
    assert b"Traceback" not in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["clip.y4m"]


def test_unknown_settings_are_refused_with_the_nearest_name(
    run_codec: RunCodec, tmp_path: Path, moving_clip: NDArray[np.uint8]
) -> None:
    np.save(tmp_path / "clip.npy", moving_clip)
    done = run_codec("encode", tmp_path / "clip.npy", "-o", tmp_path / "c.ck", "--codec", "hnerv", "--set", "epoch=3")
    assert done.returncode == 2
    assert b"epochs" in done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["clip.npy"]


@pytest.mark.slow
def test_a_clip_of_single_pixels_goes_there_and_back(run_codec: RunCodec, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.random.default_rng(0).integers(0, 255, (2, 1, 1, 3)).astype(np.uint8))
    done = run_codec("encode", tmp_path / "clip.npy", "-o", tmp_path / "c.ck", "--codec", "hnerv", "--json", *FAST)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["frames"], report["height"], report["width"]) == (2, 1, 1)
    done = run_codec("decode", tmp_path / "c.ck", "-o", f"{tmp_path}/out/")
    assert done.returncode == 0, done.stderr
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["000000.png", "000001.png"]
