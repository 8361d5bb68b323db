"""Training the circuit of ``pc-grey`` on a stack of small grey images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats.errors import InvalidParameter, UnsupportedInput
from ...formats.images import open_source
from ..protocol import Figure
from ..run_context import RunContext
from .grey_classes import GREYS, learn_classes
from .integer_circuit import quantised, save_circuit
from .learning import LearningSettings, learn
from .structure import chow_liu_tree

__all__ = ["GreyTrainingSettings", "train_grey"]

_STRUCTURE_EDGES = (1, 64, 128, 200, 253)
"""Grey values that split pixels into six groups for mutual information; finer groups only add noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyTrainingSettings:
    """``classes`` is about how many runs of grey values the circuit tells apart."""

    classes: int = 48
    learning: LearningSettings = field(default_factory=LearningSettings)

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= GREYS:
            raise InvalidParameter(f"classes must be 2 to 256, got {self.classes}")


def train_grey(
    data: Sequence[Path], output: Path, settings: GreyTrainingSettings, context: RunContext
) -> Mapping[str, Figure]:
    """Learn structure and parameters from all images in ``data`` and write an integer circuit to ``output``."""
    images = _images(data, context)
    count, height, width = images.shape
    flat = images.reshape(count, height * width)
    histogram = np.bincount(flat.reshape(-1), minlength=GREYS).astype(np.int64)
    classes = learn_classes(histogram, settings.classes)
    context.report("structure", 0, 1)
    groups = np.searchsorted(_STRUCTURE_EDGES, np.arange(GREYS), side="right").astype(np.uint8)
    tree = chow_liu_tree(groups[flat], len(_STRUCTURE_EDGES) + 1)
    numbers = torch.from_numpy(classes.class_of_grey[flat])
    model = learn(numbers, tree, classes.count, settings.learning, context)
    circuit = quantised(model, classes, height, width)
    save_circuit(circuit, output)
    sample = numbers[: min(count, 2000)]
    nats = -float(circuit.to_float().log_likelihood(sample).mean()) / (height * width)
    within = float(classes.offset_bits()[flat[: len(sample)]].mean())
    return {
        "images": count,
        "classes": classes.count,
        "levels": len(tree.levels),
        "train_bpp": nats / float(np.log(2.0)) + within,
        "size_bytes": output.stat().st_size,
    }


def _images(data: Sequence[Path], context: RunContext) -> NDArray[np.uint8]:
    stacks = []
    for path in data:
        with open_source(path, limits=context.limits) as source:
            stacks.append(source.stack().images)
    sizes = {stack.shape[1:] for stack in stacks}
    if len(sizes) != 1:
        raise UnsupportedInput(f"training images need one size, got {sorted(sizes)}")
    return np.concatenate(stacks)
