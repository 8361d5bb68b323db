"""Token ids for language models: reversible, independent of batches, streams and threads, and safe to keep."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeckit.formats.errors import CorruptFile, InvalidParameter, OutputFailure
from codeckit.text import WindowTokenizer

SETTINGS: list[dict[str, Any]] = [
    {"bits": 16},
    {"bits": 16, "token_bits": 8},
    {"bits": 24, "token_bits": 8},
    {"bits": 32},
    {"bits": 32, "reset_every": 2},
    {"bits": 64, "delayed": True},
    {"bits": 128, "reset_every": 0, "token_bits": 8},
    {"mode": "dictionary"},
    {"mode": "dictionary", "parse": "longest", "token_bits": 8},
    {"mode": "ac", "token_bits": 8},
    {"mode": "static", "token_bits": 8},
    {"mode": "gzip", "token_bits": 8},
]
TOKENIZERS = [WindowTokenizer(**chosen) for chosen in SETTINGS]
NAMES = [" ".join(f"{key}={value}" for key, value in chosen.items()) for chosen in SETTINGS]
TEXTS = ["", "a", "Call me Ishmael.", "Zażółć gęślą jaźń", "\x00\x00", "word " * 300, "It was the best of times. " * 40]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=NAMES)
def test_text_comes_back(tokenizer: WindowTokenizer) -> None:
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids.dtype == np.uint16
        assert ids.max(initial=0) < tokenizer.vocabulary_size
        assert tokenizer.decode(ids, size_bytes=len(text.encode())).decode() == text


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), tokenizer=st.sampled_from(TOKENIZERS))
def test_bytes_that_are_no_text_come_back(data: bytes, tokenizer: WindowTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(data), size_bytes=len(data)) == data


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=NAMES)
def test_batches_are_the_texts_one_by_one(tokenizer: WindowTokenizer) -> None:
    batch = tokenizer.encode_batch(TEXTS * 9)
    for text, ids in zip(TEXTS * 9, batch, strict=True):
        assert np.array_equal(ids, tokenizer.encode(text))


@pytest.mark.parametrize("chosen", [{"bits": 16}, {"bits": 32}, {"mode": "dictionary"}], ids=str)
def test_streams_and_threads_do_not_change_ids(chosen: dict[str, Any]) -> None:
    text = ("It was the worst of times, it was the age of wisdom. " * 6000)[:300_000]
    expected = WindowTokenizer(**chosen, threads=1).encode(text)
    tokenizer = WindowTokenizer(**chosen, threads=3)
    assert np.array_equal(tokenizer.encode(text), expected)
    pieces = [text[start : start + 70_001] for start in range(0, len(text), 70_001)]
    assert np.array_equal(np.concatenate(list(tokenizer.encode_stream(pieces))), expected)
    assert tokenizer.decode(expected) == text.encode()


def test_a_memory_mapped_file_holds_documents_with_separators(tmp_path: Path) -> None:
    tokenizer = WindowTokenizer(mode="dictionary")
    count = tokenizer.write_bin(tmp_path / "train.bin", TEXTS)
    ids = tokenizer.open_bin(tmp_path / "train.bin")
    assert len(ids) == count
    assert ids.dtype == np.uint16
    pieces = np.split(np.asarray(ids), np.flatnonzero(ids == tokenizer.separator) + 1)
    assert [tokenizer.decode(piece).decode() for piece in pieces[:-1]] == TEXTS
    with pytest.raises(OutputFailure):
        tokenizer.write_bin(tmp_path / "train.bin", TEXTS)
    with pytest.raises(CorruptFile, match="made with model"):
        WindowTokenizer(bits=16).open_bin(tmp_path / "train.bin")
    (tmp_path / "train.bin").write_bytes(b"123")
    with pytest.raises(CorruptFile, match="promises"):
        tokenizer.open_bin(tmp_path / "train.bin")


def test_a_column_function_maps_batches_and_can_be_sent_to_other_processes() -> None:
    column = pickle.loads(pickle.dumps(WindowTokenizer(bits=32, token_bits=8).column("text", "input_ids")))
    mapped = column({"text": TEXTS})
    tokenizer = WindowTokenizer(bits=32, token_bits=8)
    assert [ids.tolist() for ids in mapped["input_ids"]] == [tokenizer.encode(text).tolist() for text in TEXTS]


def test_the_column_function_works_in_datasets() -> None:
    import datasets

    tokenizer = WindowTokenizer(mode="dictionary")
    mapped = datasets.Dataset.from_dict({"text": TEXTS}).map(tokenizer.column(), batched=True)
    assert [tokenizer.decode(ids).decode() for ids in mapped["input_ids"]] == TEXTS


@pytest.mark.parametrize(
    "bad",
    [
        {"bits": 24},
        {"bits": 40, "token_bits": 8},
        {"parse": "Fewest"},
        {"mode": "window"},
        {"token_bits": 12},
        {"mode": "ac"},
        {"threads": 0},
        {"mode": "dictionary", "bits": 32},
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        WindowTokenizer(**bad)


def test_ids_no_encoder_makes_are_refused() -> None:
    windows = WindowTokenizer(bits=32)
    for ids in ([70000], [-1], [0.5], [[1, 2]], [1], [0, 0]):
        with pytest.raises(CorruptFile):
            windows.decode(np.array(ids))
    with pytest.raises(InvalidParameter, match="size_bytes"):
        WindowTokenizer(mode="ac", token_bits=8).decode([1, 2, 3])
