"""Files written by this bitstream version decode to the recorded bytes, and are written again byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

import codeckit

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "text-fast": ("fast", {}),
    "text-balanced": ("balanced", {}),
    "text-max": ("max", {}),
    "text-unprimed": ("max", {"model": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_golden_files_decode_and_are_written_again_byte_for_byte(name: str) -> None:
    preset, settings = CASES[name]
    text = (GOLDEN / "windows.txt").read_bytes()
    recorded = (GOLDEN / f"{name}.ck").read_bytes()
    assert codeckit.decode(recorded) == text
    assert codeckit.encode(text, codec="text", preset=preset, settings=settings) == recorded
