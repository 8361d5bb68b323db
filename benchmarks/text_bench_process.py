"""Figures of ``codec bench text`` that need a process of their own: start-up, and memory on a long stream."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["STREAMS", "start_up_rows", "stream_rows"]

_SENTENCE = b"The file of a thousand bytes shows how long the command takes to start, not how fast it codes. "
_REPEATS = 5
_COMMAND = "import sys; from codeckit.cli.main import main; sys.exit(main(sys.argv[1:]))"
# Runs the command as a user would and reports the peak of resident memory of its process.
_MEASURED = """
import json, sys
from codeckit.cli.main import main
code = main(sys.argv[1:])
# not ru_maxrss: that begins at the size of the process which started this one
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) << 10
print(json.dumps({"exit_code": code, "peak_bytes": peak}), file=sys.stderr)
"""


def start_up_rows(presets: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Median seconds of ``codec encode`` and ``codec decode`` of a file of 1,000 bytes, with a filled compile cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").write_bytes((_SENTENCE * 12)[:1000])
        for preset in presets:
            encode = ["encode", "text", "-o", "coded", "--codec", "text", "--preset", preset, "-f", "-q"]
            decode = ["decode", "coded", "-o", "back", "-f", "-q"]
            # The first run fills the compile cache.
            warm = [(_command(encode, folder), _command(decode, folder)) for _ in range(_REPEATS + 1)][1:]
            yield {
                "coder": f"text {preset}",
                "input_bytes": 1000,
                "file_bytes": (folder / "coded").stat().st_size,
                "encode_seconds": statistics.median(row[0] for row in warm),
                "decode_seconds": statistics.median(row[1] for row in warm),
                "exact": (folder / "back").read_bytes() == (folder / "text").read_bytes(),
            }


def _command(words: Sequence[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _COMMAND, *words], cwd=folder, check=True)
    return time.perf_counter() - start


def stream_rows(size_mib: int, kind: str) -> Iterator[dict[str, Any]]:
    """Peak memory of coding a stream that is made on the fly and never lies in a file, and of decoding it to a pipe.

    ``kind`` is one of ``STREAMS``.
    """
    generated = STREAMS[kind]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        coded = Path(name) / "stream.ck"
        arguments = ["encode", "-", "-o", str(coded), "--codec", "text", "--preset", "fast", "-q"]
        encoder = subprocess.Popen(
            [sys.executable, "-c", _MEASURED, *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert encoder.stdin is not None
        assert encoder.stderr is not None
        for piece in generated(size_mib):
            encoder.stdin.write(piece)
        encoder.stdin.close()
        encoding = _measured(encoder)
        decoder = subprocess.Popen(
            [sys.executable, "-c", _MEASURED, "decode", str(coded), "-o", "-", "-q"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert decoder.stdout is not None
        exact = all(decoder.stdout.read(len(piece)) == piece for piece in generated(size_mib))
        exact = exact and not decoder.stdout.read(1)
        decoding = _measured(decoder)
        yield {
            "coder": "text fast",
            "file": kind,
            "input_mib": size_mib,
            "seconds_both_ways": time.perf_counter() - start,
            "input_bytes": size_mib << 20,
            "file_bytes": coded.stat().st_size,
            "encode_peak_mib": encoding["peak_bytes"] / (1 << 20),
            "decode_peak_mib": decoding["peak_bytes"] / (1 << 20),
            "exact": exact,
        }


def _one_byte(size_mib: int) -> Iterator[bytes]:
    """One letter over and over, in pieces of 1 MiB."""
    return (b"a" * (1 << 20) for _ in range(size_mib))


def _one_line(size_mib: int) -> Iterator[bytes]:
    """One line over and over, as logs of a broken disk have it, in pieces of 1 MiB."""
    line = b"kernel: blk_update_request: I/O error, dev sdb, sector 976773168 op 0x0:(READ) flags 0x80700\n"
    piece = line * ((1 << 20) // len(line) + 2)
    for number in range(size_mib):
        start = (number << 20) % len(line)
        yield piece[start : start + (1 << 20)]


def _numbered_lines(size_mib: int) -> Iterator[bytes]:
    """A reproducible text in pieces of 1 MiB: numbered lines, each with words drawn by a small generator."""
    state = 1
    words = [bytes([97 + (k * 7 + j * j) % 26 for j in range(3 + k % 6)]) for k in range(64)]
    line_number = 0
    for _ in range(size_mib):
        lines = []
        size = 0
        while size < 1 << 20:
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            line_number += 1
            chosen = b" ".join(words[state >> shift & 63] for shift in range(0, 58, 6))
            line = b"%d %s\n" % (line_number, chosen)
            lines.append(line)
            size += len(line)
        yield b"".join(lines)[: 1 << 20]


STREAMS: Mapping[str, Callable[[int], Iterator[bytes]]] = {
    "lines": _numbered_lines,
    "one-line": _one_line,
    "one-byte": _one_byte,
}
"""What a long stream is made of: text that has to be mixed, or repetition, which takes LZMA's memory."""


def _measured(process: subprocess.Popen[bytes]) -> dict[str, int]:
    assert process.stderr is not None
    report = process.stderr.read().decode().strip().splitlines()
    if process.wait() != 0 or not report:
        raise RuntimeError("\n".join(report) or f"the command ended with {os.strerror(process.returncode)}")
    result: dict[str, int] = json.loads(report[-1])
    return result
