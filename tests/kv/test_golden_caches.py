"""Files written by the first versions decode to what they held.

The golden files were made once with ``codeckit.encode`` from ``golden_cache()`` and are replaced only together with
a new bitstream version; no test writes them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import codeckit
from codeckit import kv

from . import synthetic

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = {
    "kv": {"quality": "60", "transform": "heads", "chunk_tokens": "16"},
    "kv-lossless": {"chunk_tokens": "16"},
    "cachegen": {"level": "150", "chunk_tokens": "20"},
    "kv-stages": {"bits": "3", "residual": "gear", "window": "6", "group": "16", "rank": "2"},
}


def golden_cache() -> kv.Cache:
    return synthetic.cache(layers=2, heads=2, tokens=40, width=8, rotary=kv.Rotary.from_theta(10_000.0, 8))


@pytest.mark.parametrize("codec", sorted(SETTINGS))
def test_golden_files_decode_to_the_same_numbers(codec: str) -> None:
    found = kv.decode(GOLDEN / f"{codec}.ck")
    expected = np.load(GOLDEN / f"{codec}.npy")
    # predictions and transforms are floating point: last bits may differ between machines, symbols may not
    np.testing.assert_allclose(np.stack(kv.to_arrays(found)), expected, rtol=2e-3, atol=2e-3)
    assert found.table == golden_cache().table


def test_lossless_gold_is_exact() -> None:
    np.testing.assert_array_equal(np.load(GOLDEN / "kv-lossless.npy"), np.stack(kv.to_arrays(golden_cache())))
    assert (
        codeckit.encode(golden_cache(), codec="kv-lossless", settings=SETTINGS["kv-lossless"])
        == (GOLDEN / "kv-lossless.ck").read_bytes()
    )
