"""The byte model: its memory survives packing, bad files are refused, and training gives the same model twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codeckit.codecs.run_context import RunContext
from codeckit.codecs.text.byte_model import load_byte_model, shipped_model_path
from codeckit.codecs.text.packed_memory import check_packed_memory, pack_memory, unpack_memory
from codeckit.codecs.text.training import train
from codeckit.formats.errors import CorruptFile, ExternalFailure, InvalidParameter

RECIPE = """
memory_lines = 500
threshold_bits = 3.0
count_line_bits = 12
document_bytes = 4000

[[sources]]
name = "verse.txt"
use_bytes = 30000
repeat = 1
held_out_bytes = 6000
profile = "prose"

[[sources]]
name = "code.txt"
use_bytes = 20000
repeat = 2
held_out_bytes = 6000
profile = "mixed"
"""


def test_the_memory_survives_packing() -> None:
    memory = load_byte_model().memory
    packed = pack_memory(memory)
    assert (unpack_memory(packed["memory_counts"], packed["memory_slots"]) == memory).all()


@pytest.mark.parametrize(
    ("counts", "slots"),
    [
        (np.array([17], np.uint8), np.full(17, 1 << 12, np.uint16)),
        (np.array([2], np.uint8), np.full(3, 1 << 12, np.uint16)),
        (np.array([1], np.uint8), np.array([4095], np.uint16)),
        (np.array([1], np.int8), np.full(1, 1 << 12, np.uint16)),
        (np.zeros(0, np.uint8), np.zeros(0, np.uint16)),
    ],
)
def test_packed_memories_nobody_writes_are_refused(counts: np.ndarray, slots: np.ndarray) -> None:
    with pytest.raises(ValueError, match="memory_"):
        check_packed_memory(counts, slots)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    with pytest.raises(ExternalFailure):
        load_byte_model(other)
    other.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(CorruptFile):
        load_byte_model(other)


def test_the_shipped_model_is_at_most_12_mb() -> None:
    assert shipped_model_path().stat().st_size <= 12_000_000


@pytest.mark.slow
def test_training_gives_the_same_model_twice(tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_bytes(
        b"".join(b"A verse of %d lines, and then %d.\n" % (i, i % 7) for i in range(1500))
    )
    (tmp_path / "code.txt").write_bytes(b"".join(b"x[%d] = f(%d)\n" % (i % 9, i) for i in range(2500)))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    settings = {"recipe": str(tmp_path / "recipe.toml")}
    digests = [
        train([tmp_path], tmp_path / f"{run}.safetensors", settings, RunContext())["sha256"] for run in ("one", "two")
    ]
    assert digests[0] == digests[1]
    assert load_byte_model(tmp_path / "one.safetensors").sha256 == digests[0]
    with pytest.raises(InvalidParameter, match="verse"):
        train([tmp_path / "nowhere"], tmp_path / "x.safetensors", settings, RunContext())
