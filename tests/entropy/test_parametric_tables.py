"""Parametric tables: close to the densities they name, and always the same integers."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from codeckit.entropy import SCALE_COUNT, parametric_table, scale_of_index, scale_tables
from codeckit.formats.errors import InvalidParameter


def _mass(family: str, scale: float, low: float, high: float) -> float:
    if family == "gaussian":
        return 0.5 * (math.erf(high / scale / 2**0.5) - math.erf(low / scale / 2**0.5))

    def cdf(x: float) -> float:
        tail = 0.5 * math.exp(-abs(x) / scale)
        return tail if x < 0 else 1 - tail

    return cdf(high) - cdf(low)


def test_scales_are_log_spaced_from_an_eighth():
    assert scale_of_index(0) == 0.125
    assert scale_of_index(18) == 1.0
    assert scale_of_index(24) == 2.0
    assert scale_of_index(19) == pytest.approx(2 ** (1 / 6), rel=1e-12)


@pytest.mark.parametrize("family", ["laplace", "gaussian"])
@pytest.mark.parametrize("index", [0, 7, 18, 40, 63])
def test_frequencies_follow_the_density(family, index):
    table = parametric_table(family, index)
    scale = scale_of_index(index)
    for value in (0, 1, -1, table.maximum // 2, table.maximum):
        exact = _mass(family, scale, value - 0.5, value + 0.5) * 2**24
        assert table.frequencies[value - table.minimum] == pytest.approx(exact, abs=1.5)


@pytest.mark.parametrize("family", ["laplace", "gaussian"])
@pytest.mark.parametrize("bits", [12, 24])
def test_tables_are_symmetric_aligned_and_escape_rarely(family, bits):
    for table in scale_tables(family, bits=bits):
        body = table.frequencies[:-1].astype(np.int64)
        assert table.escape
        assert table.alignment >= 24 - bits
        assert table.minimum == -table.maximum
        assert np.abs(body - body[::-1]).max() <= 1 << (24 - bits)
        assert table.frequencies[-1] <= 2**24 >> (bits * 2 // 3) or bits == 12


@pytest.mark.parametrize(
    ("family", "bits", "digest"),
    [
        ("laplace", 12, "238d771559aa4eee"),
        ("laplace", 24, "8febadcd31ea689e"),
        ("gaussian", 12, "73f247f83a276c71"),
        ("gaussian", 24, "fbdec6b916e99e0d"),
    ],
)
def test_tables_are_the_recorded_integers(family, bits, digest):
    tables = scale_tables(family, bits=bits)
    assert len(tables) == SCALE_COUNT
    joined = "".join(table.digest for table in tables)
    assert hashlib.sha256(joined.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("family", "index", "bits"),
    [("cauchy", 0, 24), ("laplace", -1, 24), ("laplace", 64, 24), ("laplace", 0, 13)],
)
def test_unknown_settings_are_refused(family, index, bits):
    with pytest.raises(InvalidParameter):
        parametric_table(family, index, bits=bits)
