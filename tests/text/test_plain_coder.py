"""The native block coder does what its source says: the same code comes from the source run as plain Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codeckit.codecs.text.block_coding import Prior, encode_mixed
from codeckit.codecs.text.byte_model import load_byte_model
from codeckit.codecs.text.presets import PRESETS, Preset

HERE = Path(__file__).parent


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_compiled_and_plain_code_are_the_same_bytes(preset: Preset, tmp_path: Path) -> None:
    text = (HERE / "golden" / "windows.txt").read_bytes()
    sample = text[:90] + b"\n\t" + text[-60:]  # letters of three scripts, line ends, bytes that are no text
    (tmp_path / "sample").write_bytes(sample)
    plain = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "plain_coder.py", tmp_path / "sample", preset.name],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert bytes.fromhex(plain.stdout) == encode_mixed(sample, preset, Prior(load_byte_model(), "prose"))
