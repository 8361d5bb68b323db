"""Tasks of machine perception by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scorers import Scorer

__all__ = ["TASKS", "make_task"]


def make_task(name: str) -> Scorer | None:
    """The task called ``name``, or None; torchvision's are called ``torchvision:MODEL``."""
    if name.startswith("torchvision:"):
        from .classification import TorchvisionTask

        return TorchvisionTask(name)
    return TASKS[name]() if name in TASKS else None


def _mobilenet(name: str) -> Scorer:
    from .classification import MobileNetTask

    return MobileNetTask(name)


def _spoken_digits() -> Scorer:
    from .spoken_digits import SpokenDigitsTask

    return SpokenDigitsTask()


TASKS: Mapping[str, Callable[[], Scorer]] = {
    **{name: partial(_mobilenet, name) for name in ("mobilenet-v1-0.25", "mobilenet-v1-0.75", "mobilenet-v2")},
    "spoken-digits": _spoken_digits,
}
