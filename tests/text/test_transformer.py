"""The plain byte transformer: it trains, learns, is written and read back, and its bad inputs are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codeckit.codecs.run_context import RunContext
from codeckit.codecs.text.training import train
from codeckit.codecs.text.transformer import bits_per_token
from codeckit.codecs.text.transformer_training import load_transformer
from codeckit.formats.errors import CorruptFile, ExternalFailure, InvalidParameter

TEXT = b"".join(b"line %d of the verse\n" % (k % 10) for k in range(900))
SMALL = {"profile": "transformer", "width": "16", "layers": "1", "heads": "2", "context": "16", "batch": "8"}


def test_a_byte_transformer_learns_and_comes_back_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_bytes(TEXT)
    output = tmp_path / "model.safetensors"
    figures = train([tmp_path / "verse.txt"], output, {**SMALL, "steps": "120", "rate": "0.02"}, RunContext())
    held_out = np.frombuffer(TEXT[len(TEXT) - len(TEXT) // 100 :], np.uint8)
    model, settings, _ = load_transformer(output)
    assert bits_per_token(model, held_out, settings) == pytest.approx(figures["held_out_bits_per_byte"])
    # Every byte has the same cost at first; a verse that repeats has an entropy far below that of its letters.
    assert float(str(figures["held_out_bits_per_byte"])) < 2.5
    assert '"step": 120' in (tmp_path / "model.safetensors.log").read_text()


@pytest.mark.parametrize("bad", [{"heads": "3"}, {"context": "1"}, {"steps": "0"}, {"other": "1"}], ids=str)
def test_settings_of_no_transformer_are_refused(tmp_path: Path, bad: dict[str, str]) -> None:
    (tmp_path / "verse.txt").write_bytes(TEXT)
    with pytest.raises(InvalidParameter):
        train([tmp_path / "verse.txt"], tmp_path / "model", {**SMALL, "steps": "1", **bad}, RunContext())


def test_other_files_are_no_transformer(tmp_path: Path) -> None:
    with pytest.raises(ExternalFailure):
        load_transformer(tmp_path / "missing")
    (tmp_path / "other").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(CorruptFile):
        load_transformer(tmp_path / "other")
    with pytest.raises(InvalidParameter, match="profile"):
        train([tmp_path / "other"], tmp_path / "model", {"profile": "other"}, RunContext())
