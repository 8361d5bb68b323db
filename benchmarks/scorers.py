"""What judges a reconstruction: distortion metrics, and tasks of machine perception, under one interface."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Protocol

from ..codecs.plugins import nearest
from ..formats.errors import InvalidParameter
from .items import Item
from .peers import load_optional

__all__ = ["SCORERS", "Metric", "Score", "Scorer", "find_scorer", "known_scorers"]

_IMAGE, _AUDIO, _TENSORS, _BYTES = "metrics_image", "metrics_audio", "metrics_tensors", "metrics_bytes"

SCORERS: Mapping[str, str] = {
    "psnr_db": f"{_IMAGE}:PSNR",
    "ssim": f"{_IMAGE}:SSIM",
    "ms_ssim": f"{_IMAGE}:MS_SSIM",
    "vif": f"{_IMAGE}:VIF",
    "gmsd": f"{_IMAGE}:GMSD",
    "lpips": "metrics_deep:LPIPS",
    "dists": "metrics_deep:DISTS",
    "feature_distance": "classification:FeatureDistance",
    "snr_db": f"{_AUDIO}:SNR",
    "si_sdr_db": f"{_AUDIO}:SI_SDR",
    "log_spectral_distance_db": f"{_AUDIO}:LOG_SPECTRAL_DISTANCE",
    "signal_to_error_db": f"{_TENSORS}:SIGNAL_TO_ERROR",
    "kl_nats": "cache_items:CacheKL",
    "exact": f"{_BYTES}:EXACT",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The value for one item, and what a person may want to know beside it (the predicted class, say)."""

    value: float
    detail: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class Scorer(Protocol):
    """A metric compares with the original; a task asks a model, and its score on the original is the baseline."""

    name: str
    title: str
    unit: str
    kinds: frozenset[str]
    higher_is_better: bool
    is_task: bool

    def version(self) -> str:
        """Identifies everything that decides a score, weights by their hash.

        Raises :class:`ExternalFailure` with the reason when the library or the weights cannot be had.
        """
        ...

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        """Judge ``decoded``; raises :class:`UnsupportedInput` when this item cannot be judged."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A distortion metric: a function of the original and the reconstruction.

    ``revision`` is raised when the function's values change; ``library`` is what computes it, a package and its module.
    """

    name: str
    title: str
    unit: str
    kinds: frozenset[str]
    higher_is_better: bool
    function: Callable[[Any, Any], float]
    revision: int = 1
    library: tuple[str, str] | None = None
    is_task: bool = False

    def version(self) -> str:
        if self.library is None:
            return str(self.revision)
        package, module = self.library
        load_optional(module, package)
        return f"{self.revision} {package} {version(package)}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        return Score(value=self.function(original, decoded))


def known_scorers() -> list[str]:
    """The names of all metrics and tasks."""
    from .tasks import TASKS

    return sorted({*SCORERS, *TASKS, "torchvision:MODEL"})


@lru_cache(maxsize=64)
def find_scorer(name: str) -> Scorer:
    """The metric or task called ``name``; raises :class:`InvalidParameter` with the nearest name."""
    from .tasks import make_task

    task = make_task(name)
    if task is not None:
        return task
    if name not in SCORERS:
        raise InvalidParameter(f"no metric or task is called {name!r}{nearest(name, known_scorers())}")
    module, _, attribute = SCORERS[name].partition(":")
    found: Any = getattr(importlib.import_module(f".{module}", __package__), attribute)
    scorer: Scorer = found() if isinstance(found, type) else found
    return scorer
