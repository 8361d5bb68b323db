"""Files forged with valid checksums: nothing but CodecError escapes any codec, and no attempt takes long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .golden_files import smallest_of_each_codec

FORGERY = Path(__file__).with_name("forgery.py")
GOLDEN = smallest_of_each_codec()
SLOWEST_SECONDS = 2.0


def test_there_are_golden_files_to_forge():
    assert len(GOLDEN) > 0


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_forged_files_raise_only_codec_errors(golden: Path):
    command = [sys.executable, str(FORGERY), str(golden), "300", "12"]
    # one thread: thread stacks would count against the memory cap
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    seen = json.loads(done.stdout)
    assert seen["escaped"] == []
    assert seen["tried"] >= 20
    assert seen["refused"] > seen["tried"] / 10
    # what passes for a sound file takes as long to decode as one
    assert seen["slowest"] < SLOWEST_SECONDS + 4 * seen["honest"]
