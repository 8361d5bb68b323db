"""Inputs of any length pass through pipes in less than 1 GiB of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEASURED = """
import json, sys
from codeckit.cli.main import main
code = main(sys.argv[1:])
# not ru_maxrss: that begins at the size of the process which started this one
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) << 10
print(json.dumps([code, peak]), file=sys.stderr)
"""
PIECE = b"the same line over and over, as logs of a broken disk have it\n" * 17_000
PIECES = 75


def peak_bytes(report: bytes) -> int:
    code, peak = json.loads(report.splitlines()[-1])
    assert code == 0
    return int(peak)


@pytest.mark.slow
def test_a_long_stream_passes_in_bounded_memory(tmp_path: Path) -> None:
    coded = tmp_path / "stream.ck"
    command = [sys.executable, "-c", MEASURED]
    arguments = ["encode", "-", "-o", str(coded), "--codec", "text", "--preset", "max", "-q"]
    encoder = subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert encoder.stdin is not None
    for _ in range(PIECES):
        encoder.stdin.write(PIECE)
    encoder.stdin.close()
    encoder.stdin = None
    assert peak_bytes(encoder.communicate()[1]) < 1 << 30
    decoder = subprocess.Popen(
        [*command, "decode", str(coded), "-o", "-", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert decoder.stdout is not None
    assert all(decoder.stdout.read(len(PIECE)) == PIECE for _ in range(PIECES))
    assert decoder.stdout.read() == b""
    assert peak_bytes(decoder.communicate()[1]) < 1 << 30
