"""Tasks of machine perception by name."""

from __future__ import annotations

import importlib
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


def _in_module(module: str, scorer: str) -> Scorer:
    made: Scorer = getattr(importlib.import_module(f".{module}", __package__), scorer)()
    return made


TASKS: Mapping[str, Callable[[], Scorer]] = {
    **{name: partial(_mobilenet, name) for name in ("mobilenet-v1-0.25", "mobilenet-v1-0.75", "mobilenet-v2")},
    "deeplab-v3": partial(_in_module, "segmentation", "DeepLabConsistency"),
    "tesseract": partial(_in_module, "text_recognition", "TesseractConsistency"),
    "spoken-digits": partial(_in_module, "spoken_digits", "SpokenDigitsTask"),
    "wav2vec2": partial(_in_module, "speech_recognition", "Wav2Vec2Consistency"),
    "hdemucs": partial(_in_module, "source_separation", "DemucsConsistency"),
}
