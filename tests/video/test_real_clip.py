"""The command line on a real clip: what it reports is what somebody else measures on the files."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

RunCodec = Callable[..., "subprocess.CompletedProcess[bytes]"]
FRAMES, WIDTH, HEIGHT = 32, 320, 160
CORES, SECONDS, PSNR_DB = 2, 90, 24


def original_frames(clip: Path) -> NDArray[np.float64]:
    """The first frames, cut to 2:1 around the centre and reduced, by PyAV and Pillow alone: [T, H, W, 3]."""
    frames = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            image = frame.to_image()
            top = (image.height - image.width // 2) // 2
            window = image.crop((0, top, image.width, top + image.width // 2))
            frames.append(np.asarray(window.reduce(window.width // WIDTH)))  # averages blocks of pixels
            if len(frames) == FRAMES:
                break
    return np.stack(frames).astype(np.float64)


@pytest.mark.slow
def test_a_real_clip_is_encoded_in_time_and_the_report_is_true(
    data_folder: Path, tmp_path: Path, run_codec: RunCodec
) -> None:
    clip, encoded, decoded = data_folder / "video" / "bigbuckbunny.mp4", tmp_path / "b.ck", tmp_path / "b.npy"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    settings = ("--set", f"size={WIDTH}x{HEIGHT}", "--set", f"frames=0:{FRAMES}")
    done = run_codec(
        "encode", clip, "-o", encoded, "--codec", "hnerv", "--preset", "quick", *settings, "--json", timeout=1200
    )
    assert done.returncode == 0, done.stderr
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    # processor time, because other work on the machine stretches the time that passes
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < CORES * SECONDS
    report = json.loads(done.stdout)
    assert report["input_bytes"] == clip.stat().st_size
    assert report["output_bytes"] == encoded.stat().st_size
    assert report["bpp"] == pytest.approx(8 * encoded.stat().st_size / (FRAMES * WIDTH * HEIGHT), rel=1e-12)
    assert run_codec("decode", encoded, "-o", decoded).returncode == 0
    frames = np.load(decoded, allow_pickle=False)
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    errors = ((original_frames(clip) - frames) ** 2).mean(axis=(1, 2, 3))
    psnr_db = float(np.mean(10 * np.log10(255**2 / errors)))
    assert psnr_db >= PSNR_DB
    # H.264 decodes to the bit; conversion to RGB may round differently elsewhere
    assert report["psnr_db"] == pytest.approx(psnr_db, abs=0.01)
