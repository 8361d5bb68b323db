"""Appending vectors to a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import codeckit
from codeckit import CodecError, UnsupportedInput, vectors

from . import synthetic


@pytest.fixture
def store(tmp_path: Path) -> Path:
    settings = {"dtype": "int8", "pca": "8", "block_rows": 256, "norms": "apart"}
    codeckit.encode(synthetic.embeddings(1000), tmp_path / "store.ck", codec="vectors", settings=settings)
    return tmp_path / "store.ck"


def test_appended_rows_follow_those_that_were_there(store: Path) -> None:
    before = codeckit.decode(store)
    more = synthetic.embeddings(700, seed=2)
    assert vectors.append(store, more) == 1700
    assert vectors.append(store, iter([more[:1], more[1:50]])) == 1750
    codeckit.verify(store)
    after = codeckit.decode(store)
    np.testing.assert_array_equal(after[:1000], before)
    np.testing.assert_array_equal(after[1700:], after[1000:1050])
    kept = np.sum(before * synthetic.embeddings(1000), axis=1).mean()
    assert np.sum(after[1000:1700] * more, axis=1).mean() == pytest.approx(kept, abs=0.03)
    with codeckit.open(store) as reader:
        np.testing.assert_array_equal(reader.vectors[[1749, 999, 1000]], after[[1749, 999, 1000]])
    found = vectors.search(store, after[1230:1231], k=1, metric="l2")
    assert found.rows.tolist() == [[1230]]


def test_the_header_knows_the_new_number(store: Path) -> None:
    vectors.append(store, synthetic.embeddings(24, seed=2))
    assert codeckit.info(store).description["vectors"] == 1024
    assert codeckit.info(store).rates["bytes_per_vector"] == round(store.stat().st_size / 1024, 3)


def test_nothing_appended_changes_nothing_that_is_read(store: Path) -> None:
    before = codeckit.decode(store)
    assert vectors.append(store, np.zeros((0, 32), np.float32)) == 1000
    np.testing.assert_array_equal(codeckit.decode(store), before)


def failing_batches() -> Iterator[NDArray[np.float32]]:
    yield synthetic.embeddings(500, seed=5)
    raise KeyboardInterrupt


def test_an_interrupted_append_leaves_the_file_as_it_was(store: Path) -> None:
    before = store.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        vectors.append(store, failing_batches())
    bad = synthetic.embeddings(600, seed=5)
    bad[599, 0] = np.nan
    for wrong in (bad, synthetic.embeddings(5, 31)):
        with pytest.raises(UnsupportedInput):
            vectors.append(store, wrong)
    assert store.read_bytes() == before
    assert [path.name for path in store.parent.iterdir()] == ["store.ck"]


def test_a_damaged_file_is_not_appended_to(store: Path) -> None:
    data = bytearray(store.read_bytes())
    data[len(data) // 2] ^= 1
    store.write_bytes(data)
    with pytest.raises(CodecError):
        vectors.append(store, synthetic.embeddings(5))
    assert store.read_bytes() == data
