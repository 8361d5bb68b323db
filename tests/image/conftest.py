"""Small circuits and images that the tests of the image codecs share."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codeckit.codecs.image.circuit import HiddenTree
from codeckit.codecs.image.grey_classes import learn_classes
from codeckit.codecs.image.integer_circuit import IntegerCircuit, quantised
from codeckit.codecs.image.structure import Tree


@pytest.fixture(scope="session")
def digits(data_folder: Path) -> NDArray[np.uint8]:
    """The MNIST test images: uint8 [10000, 28, 28]."""
    data = gzip.decompress((data_folder / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)


@pytest.fixture(scope="session")
def random_tree() -> HiddenTree:
    """A tree over six variables, three states, four classes."""
    return make_tree((-1, 0, 0, 1, 1, 2), states=3, classes=4)


@pytest.fixture(scope="session")
def small_circuit() -> IntegerCircuit:
    """An integer circuit for 3x4 images."""
    generator = np.random.default_rng(3)
    histogram = generator.integers(0, 50, 256)
    classes = learn_classes(histogram, 12)
    parents = (-1, 0, 1, 1, 0, 4, 5, 5, 7, 2, 9, 9)
    return quantised(make_tree(parents, states=5, classes=classes.count), classes, 3, 4)


def make_tree(parents: tuple[int, ...], *, states: int, classes: int) -> HiddenTree:
    """A tree with random parameters."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((states,), (len(parents), states, states), (len(parents), states, classes))
    root, transitions, leaves = (torch.rand(shape, generator=generator) ** 3 + 0.01 for shape in shapes)
    return HiddenTree(
        tree=Tree(parents=parents),
        root=root / root.sum(),
        transitions=transitions / transitions.sum(2, keepdim=True),
        leaves=leaves / leaves.sum(2, keepdim=True),
    )
