"""Distances between pictures in the features of VGG-16: LPIPS and DISTS, by the package ``piq``.

Their weights are downloaded by ``piq`` and torchvision; where they cannot be had, the metric is skipped with a reason.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import Any

from ..formats.errors import ExternalFailure
from .items import Item
from .metrics_image import of_pictures, picture_tensor
from .peers import load_optional
from .scorers import Score

__all__ = ["DISTS", "LPIPS"]

_REVISION = 1


class _DeepMetric:
    name: str
    title: str
    unit = ""
    kinds = frozenset({"image", "video"})
    higher_is_better = False
    is_task = False

    def version(self) -> str:
        _network(self.title)
        return f"{_REVISION} piq {version('piq')}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        return Score(value=of_pictures(self._distance)(original, decoded))

    def _distance(self, original: Any, decoded: Any) -> float:
        import torch

        with torch.inference_mode():
            return float(_network(self.title)(picture_tensor(decoded) / 255, picture_tensor(original) / 255))


class LPIPS(_DeepMetric):
    """Learned perceptual image patch similarity (Zhang et al. 2018), VGG-16; 0 is identical."""

    name = "lpips"
    title = "LPIPS"


class DISTS(_DeepMetric):
    """Deep image structure and texture similarity (Ding et al. 2020); 0 is identical."""

    name = "dists"
    title = "DISTS"


@lru_cache(maxsize=2)
def _network(kind: str) -> Any:
    piq: Any = load_optional("piq", "piq")
    try:
        return getattr(piq, kind)()
    except (OSError, RuntimeError) as error:
        raise ExternalFailure(f"weights unobtainable: those of {kind} do not download: {error}") from error
