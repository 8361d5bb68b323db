"""The logistic tables are exact, monotone and inverse to one another."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from codeckit.codecs.text.logistic import UNITS_PER_NAT, logistic_tables


def test_squash_is_the_logistic_function_to_the_last_unit() -> None:
    squash = logistic_tables().squash
    for index in range(4096):
        exact = 65536 / (1 + math.exp(-(index - 2048) / UNITS_PER_NAT))
        assert abs(int(squash[index]) - exact) <= 1


def test_tables_are_monotone_and_symmetric() -> None:
    tables = logistic_tables()
    assert (np.diff(tables.squash.astype(int)) >= 0).all()
    assert (np.diff(tables.stretch.astype(int)) >= 0).all()
    assert int(tables.squash[2048]) == 32768
    assert tables.stretch.min() >= -2047
    assert tables.stretch.max() <= 2047


def test_stretch_inverts_squash_within_one_cell() -> None:
    tables = logistic_tables()
    for p in range(16, 4080):
        assert abs((int(tables.squash[int(tables.stretch[p]) + 2048]) >> 4) - p) <= 6


def test_tables_are_the_recorded_ones() -> None:
    tables = logistic_tables()
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(t).tobytes() for t in tables)).hexdigest()
    assert digest == "73b0c1b7d2c0f55e6e306ff4655d870a79e18a7d6d679467e9ddc9ca5a24aa4f"
