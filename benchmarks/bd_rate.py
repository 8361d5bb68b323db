"""Bjøntegaard deltas between two curves of rate against quality, or of rate against task accuracy.

Follows Bjøntegaard (VCEG-M33) with piecewise cubic Hermite interpolation (PCHIP) on log-rate. Real curves are not
always monotone (accuracy in particular), so each is first reduced to its monotone hull, the points that no cheaper
point equals or beats. Whatever cannot be computed is NaN with a reason, and how far the curves overlap is reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BDDelta", "bd_metric", "bd_rate", "monotone_hull"]

MIN_POINTS = 2
POINTS_TO_TRUST = 4
OVERLAP_TO_TRUST = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BDDelta:
    """A Bjøntegaard delta.

    ``value`` is in percent of rate (negative is cheaper) or in units of the metric (positive is better), NaN when
    ``reason`` says why. ``overlap`` is the common part of the two curves over all that they span, 0 to 1.
    ``warnings`` name what to be careful with: few points, little overlap, points that the hull left out.
    """

    value: float
    overlap: float
    reason: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hull:
    log_rates: NDArray[np.float64]
    metrics: NDArray[np.float64]
    dropped: int


def bd_rate(
    anchor_rates: Sequence[float],
    anchor_metrics: Sequence[float],
    test_rates: Sequence[float],
    test_metrics: Sequence[float],
) -> BDDelta:
    """Average difference in rate at equal quality, percent of the anchor's rate; larger metrics must be better.

    Rates are positive, in any one unit; the order of points does not matter.
    """
    hulls = _hulls(anchor_rates, anchor_metrics, test_rates, test_metrics)
    if isinstance(hulls, str):
        return BDDelta(value=math.nan, overlap=0.0, reason=hulls)
    anchor, test = hulls
    mean, overlap, reason = _mean_gap(anchor.metrics, anchor.log_rates, test.metrics, test.log_rates)
    value = math.expm1(mean) * 100 if reason is None else math.nan
    return BDDelta(value=value, overlap=overlap, reason=reason, warnings=_warnings(anchor, test, overlap))


def bd_metric(
    anchor_rates: Sequence[float],
    anchor_metrics: Sequence[float],
    test_rates: Sequence[float],
    test_metrics: Sequence[float],
) -> BDDelta:
    """Average difference in the metric at equal rate, in the metric's unit; positive when the test is better."""
    hulls = _hulls(anchor_rates, anchor_metrics, test_rates, test_metrics)
    if isinstance(hulls, str):
        return BDDelta(value=math.nan, overlap=0.0, reason=hulls)
    anchor, test = hulls
    mean, overlap, reason = _mean_gap(anchor.log_rates, anchor.metrics, test.log_rates, test.metrics)
    value = mean if reason is None else math.nan
    return BDDelta(value=value, overlap=overlap, reason=reason, warnings=_warnings(anchor, test, overlap))


def monotone_hull(rates: Sequence[float], metrics: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points, by rising rate, that are better than every cheaper one: strictly rising in both."""
    hull_rates: list[float] = []
    hull_metrics: list[float] = []
    # at equal rate the better point comes first, so that the worse one is dropped
    for rate, metric in sorted(zip(rates, metrics, strict=True), key=lambda point: (point[0], -point[1])):
        if not hull_metrics or metric > hull_metrics[-1]:
            hull_rates.append(rate)
            hull_metrics.append(metric)
    return hull_rates, hull_metrics


def _hulls(
    anchor_rates: Sequence[float],
    anchor_metrics: Sequence[float],
    test_rates: Sequence[float],
    test_metrics: Sequence[float],
) -> tuple[_Hull, _Hull] | str:
    hulls = []
    for name, rates, metrics in (("anchor", anchor_rates, anchor_metrics), ("test", test_rates, test_metrics)):
        if not all(math.isfinite(value) for value in (*rates, *metrics)):
            return f"the {name} curve has a point that is not finite"
        if any(rate <= 0 for rate in rates):
            return f"the {name} curve has a rate that is not positive"
        hull = _hull(rates, metrics)
        if len(hull.metrics) < MIN_POINTS:
            return f"the {name} curve has {len(hull.metrics)} rising point(s); {MIN_POINTS} are needed"
        hulls.append(hull)
    return hulls[0], hulls[1]


def _hull(rates: Sequence[float], metrics: Sequence[float]) -> _Hull:
    import numpy as np

    hull_rates, hull_metrics = monotone_hull(rates, metrics)
    return _Hull(np.log(hull_rates), np.array(hull_metrics, dtype=np.float64), len(rates) - len(hull_rates))


def _mean_gap(
    anchor_x: NDArray[np.float64],
    anchor_y: NDArray[np.float64],
    test_x: NDArray[np.float64],
    test_y: NDArray[np.float64],
) -> tuple[float, float, str | None]:
    """Mean of test minus anchor over the common range of x, the overlap, and why there is none."""
    from scipy.interpolate import PchipInterpolator

    low, high = max(anchor_x[0], test_x[0]), min(anchor_x[-1], test_x[-1])
    span = max(anchor_x[-1], test_x[-1]) - min(anchor_x[0], test_x[0])
    if high <= low:
        return math.nan, 0.0, "the curves have no range in common"
    areas = [float(PchipInterpolator(x, y).integrate(low, high)) for x, y in ((test_x, test_y), (anchor_x, anchor_y))]
    return (areas[0] - areas[1]) / float(high - low), float((high - low) / span), None


def _warnings(anchor: _Hull, test: _Hull, overlap: float) -> tuple[str, ...]:
    found = []
    for name, hull in (("anchor", anchor), ("test", test)):
        if len(hull.metrics) < POINTS_TO_TRUST:
            found.append(f"the {name} curve has only {len(hull.metrics)} points")
        if hull.dropped:
            found.append(f"the {name} curve is not monotone: {hull.dropped} point(s) left out")
    if overlap < OVERLAP_TO_TRUST:
        found.append(f"the curves overlap by only {overlap:.0%}")
    return tuple(found)
