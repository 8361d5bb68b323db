"""Files written by the first version decode to the very float32 bits they held.

The golden files were made once by ``codeckit.encode(golden_vectors(), codec="vectors", settings=SETTINGS[name])``, and
the arrays beside them by ``codeckit.decode``. They are replaced only together with a new bitstream version; no test
writes them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import codeckit

from . import synthetic

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = {
    "float32": {"dtype": "float32", "tables": 2},
    "bfloat16": {"dtype": "bfloat16", "entropy": "none"},
    "float8-pca": {"dtype": "float8_e4m3", "pca": "8", "norms": "apart", "tables": 2},
    "int4": {"dtype": "int4", "tables": 1},
    "binary-2": {"dtype": "binary", "rescoring_bits": 2, "random_projection": 8, "block_rows": 256},
}


def golden_vectors() -> np.ndarray:
    return 3 * synthetic.embeddings(600, 16)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_golden_files_decode_to_the_same_bits(name: str) -> None:
    np.testing.assert_array_equal(codeckit.decode(GOLDEN / f"{name}.ck"), np.load(GOLDEN / f"{name}.npy"))


@pytest.mark.parametrize(
    ("name", "least"), [("float32", 0.9999999), ("bfloat16", 0.99999), ("float8-pca", 0.97), ("int4", 0.99)]
)
def test_golden_files_hold_the_golden_vectors(name: str, least: float) -> None:
    one, other = np.load(GOLDEN / f"{name}.npy").astype(np.float64), golden_vectors().astype(np.float64)
    cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines.mean() > least


def test_what_is_not_fitted_encodes_to_the_same_bytes() -> None:
    data = codeckit.encode(golden_vectors(), codec="vectors", settings=SETTINGS["bfloat16"])
    assert data == (GOLDEN / "bfloat16.ck").read_bytes()
