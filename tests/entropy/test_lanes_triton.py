"""The Triton backend without a GPU: interpreted kernels, and a clear refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codeckit.entropy import decode_lanes, encode_lanes
from codeckit.formats.errors import DeviceUnavailable

from .lane_cases import even


@pytest.mark.slow
def test_interpreted_kernels_write_and_read_the_same_bytes_as_the_native_backend():
    script = Path(__file__).with_name("triton_interpreter_run.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "words of lane 2 do not end exactly" in done.stdout
    assert "32 decoded, 25 encoded" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_forcing_triton_without_a_device_is_refused():
    values = np.zeros((2, 3), np.int64)
    with pytest.raises(DeviceUnavailable, match="native"):
        encode_lanes(values, [even(2)], backend="triton")
    with pytest.raises(DeviceUnavailable, match="native"):
        decode_lanes(encode_lanes(values, [even(2)]), backend="triton")
