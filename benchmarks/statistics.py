"""Intervals and tests for benchmark figures: paired bootstrap over items, McNemar, correlations.

Items (pictures, clips, utterances) are what is sampled, so they are what is resampled: every codec and setting is
evaluated on the same drawn items, which keeps the pairing between codecs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..formats.errors import InvalidParameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "McNemar", "bootstrap", "correlation", "mcnemar", "wilson"]

RESAMPLES = 1000
# more failing resamples than this, and an interval over the rest would flatter
FAILURES_ALLOWED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its interval; ``low`` and ``high`` are NaN when ``reason`` says why there is none."""

    value: float
    low: float
    high: float
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's exact test: how many items only the first got right, only the second, and the two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    items: int,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of ``statistic``, a function of the drawn item indices, int64 [items].

    Because the same draw is used for everything inside ``statistic``, differences between codecs are paired.
    Resamples whose statistic is NaN are left out; above 5 % of them there is no interval.
    """
    import numpy as np

    if items < 1:
        raise InvalidParameter("a bootstrap needs at least one item")
    value = float(statistic(np.arange(items)))
    if items < 2:
        return Interval(value=value, low=math.nan, high=math.nan, reason="one item gives no interval")
    generator = np.random.default_rng(seed)
    drawn = np.array([statistic(generator.integers(0, items, items)) for _ in range(resamples)], dtype=np.float64)
    sound = drawn[np.isfinite(drawn)]
    if sound.size < resamples * (1 - FAILURES_ALLOWED):
        reason = f"undefined in {resamples - sound.size} of {resamples} resamples"
        return Interval(value=value, low=math.nan, high=math.nan, reason=reason)
    tail = (1 - confidence) / 2
    low, high = np.quantile(sound, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Whether two classifiers, or one on two versions of the same items, differ (McNemar 1947, exact binomial)."""
    from scipy.stats import binomtest

    if len(first) != len(second):
        raise InvalidParameter(f"McNemar's test pairs items; there are {len(first)} and {len(second)}")
    only_first = sum(bool(a) and not b for a, b in zip(first, second, strict=True))
    only_second = sum(bool(b) and not a for a, b in zip(first, second, strict=True))
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemar(only_first=only_first, only_second=only_second, p_value=p_value)


def wilson(right: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, sound near 0 and 1 where a bootstrap collapses."""
    from scipy.stats import binomtest

    if total < 1:
        raise InvalidParameter("a proportion needs at least one item")
    found = binomtest(right, total).proportion_ci(confidence, method="wilson")
    return Interval(value=right / total, low=float(found.low), high=float(found.high))


def correlation(first: ArrayLike, second: ArrayLike, *, kind: str = "spearman", seed: int = 0) -> Interval:
    """Correlation of per-item means over settings, with an interval from resampling items.

    ``first`` and ``second`` are float [settings, items]: a distortion metric and a task's score. ``kind`` is
    ``spearman`` or ``pearson``. A constant side has no correlation: NaN with the reason.
    """
    import numpy as np

    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim != 2:
        raise InvalidParameter(f"correlation takes two arrays [settings, items]; got {one.shape} and {two.shape}")
    if kind not in ("spearman", "pearson"):
        raise InvalidParameter(f"no correlation is called {kind!r}; there are pearson, spearman")
    if one.shape[0] < 3:
        return Interval(value=math.nan, low=math.nan, high=math.nan, reason="fewer than three settings")

    def statistic(drawn: NDArray[np.intp]) -> float:
        return _correlate(one[:, drawn].mean(axis=1), two[:, drawn].mean(axis=1), kind)

    found = bootstrap(statistic, one.shape[1], seed=seed)
    if math.isnan(found.value):
        return Interval(value=math.nan, low=math.nan, high=math.nan, reason="one side is the same at every setting")
    return found


def _correlate(first: NDArray[np.float64], second: NDArray[np.float64], kind: str) -> float:
    import numpy as np
    from scipy.stats import rankdata

    if kind == "spearman":
        first, second = rankdata(first), rankdata(second)
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm > 0 else math.nan
