"""Deltas, intervals and tests agree with independent computations, and say why where there is no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeckit.benchmarks.bd_rate import bd_metric, bd_rate, monotone_hull
from codeckit.benchmarks.statistics import bootstrap, correlation, mcnemar, wilson
from codeckit.formats.errors import InvalidParameter

ANCHOR = ([0.262, 0.386, 0.686, 1.1], [23.1, 25.5, 28.3, 31.0])
TEST = ([0.139, 0.236, 0.488, 0.9], [24.3, 26.4, 29.3, 32.5])


def rising_curve(seed: int) -> tuple[list[float], list[float]]:
    generator = np.random.default_rng(seed)
    rates = np.cumsum(generator.uniform(0.05, 0.5, 5))
    metrics = 22 + np.cumsum(generator.uniform(0.5, 3.0, 5))
    return list(rates), list(metrics)


@pytest.mark.parametrize("seed", range(20))
def test_deltas_agree_with_the_bjontegaard_package(seed: int):
    oracle = pytest.importorskip("bjontegaard", reason="install the extra `dev` to compare with bjontegaard")
    anchor, test = rising_curve(seed), rising_curve(seed + 1000)
    ours = bd_rate(*anchor, *test)
    if ours.reason is None:
        theirs = oracle.bd_rate(*anchor, *test, method="pchip", require_matching_points=False, min_overlap=0)
        assert ours.value == pytest.approx(theirs, rel=1e-6)
    quality = bd_metric(*anchor, *test)
    if quality.reason is None:
        theirs = oracle.bd_psnr(*anchor, *test, method="pchip", require_matching_points=False, min_overlap=0)
        assert quality.value == pytest.approx(theirs, rel=1e-6, abs=1e-9)


def test_half_the_rate_at_the_same_quality_is_minus_fifty_percent():
    half = [rate / 2 for rate in ANCHOR[0]]
    delta = bd_rate(*ANCHOR, half, ANCHOR[1])
    assert delta.value == pytest.approx(-50)
    assert delta.overlap == pytest.approx(1)
    assert delta.warnings == ()


@settings(max_examples=50, deadline=None)
@given(factor=st.floats(0.1, 10), gain=st.floats(-2, 2))
def test_deltas_follow_scaled_rates_and_shifted_metrics(factor: float, gain: float):
    scaled = [rate * factor for rate in ANCHOR[0]]
    assert bd_rate(*ANCHOR, scaled, ANCHOR[1]).value == pytest.approx((factor - 1) * 100, rel=1e-6, abs=1e-6)
    shifted = [metric + gain for metric in ANCHOR[1]]
    assert bd_metric(*ANCHOR, ANCHOR[0], shifted).value == pytest.approx(gain, abs=1e-9)


def test_a_better_curve_is_cheaper_and_swapping_the_two_inverts_the_ratio():
    there, back = bd_rate(*ANCHOR, *TEST), bd_rate(*TEST, *ANCHOR)
    assert there.value < 0 < back.value
    assert (1 + there.value / 100) * (1 + back.value / 100) == pytest.approx(1)


def test_a_curve_that_is_not_monotone_is_reduced_to_its_hull_and_says_so():
    rates, metrics = [0.1, 0.2, 0.3, 0.4, 0.5], [0.5, 0.7, 0.65, 0.8, 0.8]
    assert monotone_hull(rates, metrics) == ([0.1, 0.2, 0.4], [0.5, 0.7, 0.8])
    delta = bd_rate(rates, metrics, [0.1, 0.2, 0.4], [0.5, 0.7, 0.8])
    assert delta.value == pytest.approx(0)
    assert "the anchor curve is not monotone: 2 point(s) left out" in delta.warnings


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (([0.1, 0.2], [40.0, 45.0]), "no range in common"),
        (([0.1], [25.0]), "1 rising point"),
        (([0.1, 0.2], [25.0, 24.0]), "1 rising point"),
        (([0.1, 0.2], [25.0, math.inf]), "not finite"),
        (([0.0, 0.2], [25.0, 26.0]), "not positive"),
    ],
)
def test_what_cannot_be_computed_is_nan_with_a_reason(test: tuple[list[float], list[float]], reason: str):
    delta = bd_rate(*ANCHOR, *test)
    assert math.isnan(delta.value)
    assert delta.reason is not None
    assert reason in delta.reason


def test_little_overlap_is_a_warning():
    delta = bd_rate(*ANCHOR, [1.0, 2.0, 3.0, 4.0], [30.0, 35.0, 38.0, 40.0])
    assert math.isfinite(delta.value)
    assert any("overlap" in warning for warning in delta.warnings)


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(100):
        sample = generator.normal(3.0, 1.0, 60)
        found = bootstrap(lambda drawn, sample=sample: sample[drawn].mean(), 60, resamples=200, seed=trial)
        covered += found.low <= 3.0 <= found.high
    assert 86 <= covered <= 100


def test_pairing_makes_the_interval_of_a_difference_narrow():
    generator = np.random.default_rng(2)
    difficulty = generator.normal(0, 10, 80)
    first, second = difficulty, difficulty + 1 + generator.normal(0, 0.1, 80)
    found = bootstrap(lambda drawn: second[drawn].mean() - first[drawn].mean(), 80)
    assert found.high - found.low < 0.2
    assert found.low < 1 < found.high


def test_a_statistic_that_often_fails_has_no_interval():
    found = bootstrap(lambda drawn: math.nan if 0 in drawn else 1.0, 5, resamples=100)
    assert math.isnan(found.low)
    assert found.reason is not None
    assert bootstrap(lambda drawn: 1.0, 1).reason == "one item gives no interval"


def test_mcnemar_counts_only_the_items_that_changed():
    first = [True] * 10 + [False] * 5
    second = [True] * 2 + [False] * 8 + [False] * 4 + [True]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (8, 1)
    assert found.p_value == pytest.approx(2 * sum(math.comb(9, k) for k in (8, 9)) / 2**9)
    assert mcnemar(first, first).p_value == 1.0
    with pytest.raises(InvalidParameter, match="pairs items"):
        mcnemar(first, second[:3])


def test_the_proportion_interval_does_not_collapse_at_the_edges():
    found = wilson(20, 20)
    assert found.value == found.high == 1
    assert 0.8 < found.low < 0.9


def test_correlation_follows_order_and_names_a_constant_side():
    generator = np.random.default_rng(3)
    quality = np.linspace(20, 40, 6)[:, None] + generator.normal(0, 1, (6, 30))
    accuracy = 1 / (1 + np.exp(-(quality - 28)))
    found = correlation(quality, accuracy)
    assert found.value == pytest.approx(1)
    assert correlation(quality, -accuracy, kind="pearson").value < -0.8
    flat = correlation(quality, np.ones_like(quality))
    assert math.isnan(flat.value)
    assert flat.reason == "one side is the same at every setting"
    with pytest.raises(InvalidParameter, match="pearson, spearman"):
        correlation(quality, accuracy, kind="kendal")
