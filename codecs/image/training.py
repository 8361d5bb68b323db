"""``codec train image``: the circuit of ``pc-grey`` or the network of ``pc``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...formats.errors import InvalidParameter
from ..parameters import make_parameters
from ..protocol import Figure
from ..run_context import RunContext

__all__ = ["train"]

PROFILES = ("grey", "photographs")


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Train on small grey images (profile=grey) or photographs (profile=photographs)."""
    if not data:
        raise InvalidParameter("give the training data: --data PATH ...")
    rest = dict(settings)
    profile = rest.pop("profile", "grey")
    if profile not in PROFILES:
        raise InvalidParameter(f"profile={profile} is not one of {', '.join(PROFILES)}")
    _set_threads(context)
    if profile == "grey":
        from .grey_training import GreyTrainingSettings, train_grey  # imports torch
        from .learning import LearningSettings

        classes = rest.pop("classes", None)
        learning = make_parameters(LearningSettings, {"": {}}, "", rest)
        chosen = {} if classes is None else {"classes": _whole(classes, "classes")}
        grey = GreyTrainingSettings(learning=learning, **chosen)
        return train_grey(data, output, grey, context)
    from .pyramid_training import TrainingSettings, train_pyramid
    from .shipping import ship

    initial = rest.pop("initial", None)
    settable = {field.name for field in dataclasses.fields(TrainingSettings)} - {"initial", "shape"}
    unknown = rest.keys() - settable
    if unknown:
        raise InvalidParameter(f"no setting is called {', '.join(sorted(unknown))}; there are {', '.join(settable)}")
    values: dict[str, Any] = {name: _number(value, name) for name, value in rest.items()}
    photographs = TrainingSettings(initial=None if initial is None else Path(initial), **values)
    checkpoint = output.with_suffix(".float.safetensors")
    figures = train_pyramid(data, checkpoint, photographs, context)
    return {**figures, **ship(checkpoint, output)}


def _set_threads(context: RunContext) -> None:
    import torch

    if context.threads is not None:
        torch.set_num_threads(context.threads)


def _whole(text: str, name: str) -> int:
    if not text.isdecimal():
        raise InvalidParameter(f"{name}={text} is not a whole number")
    return int(text)


def _number(text: str, name: str) -> float | int:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise InvalidParameter(f"{name}={text} is not a number") from None
