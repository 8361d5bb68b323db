"""Coding stacks of images with an integer circuit: depth first, one message down and one up per edge.

Images go through the tree in batches of :data:`BATCH`; a lane is one coder stream over several batches. Both are
constants of the bitstream, so that bytes depend neither on threads nor on how a caller groups its images.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import CorruptFile
from .ans import AnsStack, encode_operations
from .circuit_kernels import (
    absorb,
    decode_classes,
    decode_offsets,
    encode_classes,
    multiply,
    propagate,
)
from .integer_circuit import IntegerCircuit

__all__ = ["BATCH", "LANE_IMAGES", "decode_lane", "encode_lane"]

BATCH = 256
LANE_IMAGES = 5 * BATCH


class _PixelCoder(Protocol):
    def code(self, variable: int, priors: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Encode or decode one variable of every image of the batch; return the classes, uint8 ``[images]``."""


@dataclass(slots=True)
class _Visit:
    """A variable on the path from the root: ``below`` gathers its leaf and the messages of coded children."""

    variable: int
    priors: NDArray[np.float64]
    below: NDArray[np.float64]
    children_done: int = 0


def encode_lane(circuit: IntegerCircuit, images: NDArray[np.uint8]) -> bytes:
    """Encode ``images`` ``[count, variables]``, at most ``LANE_IMAGES``, as one stream of words."""
    starts: list[NDArray[np.uint32]] = []
    frequencies: list[NDArray[np.uint32]] = []
    for first in range(0, len(images), BATCH):
        batch = np.ascontiguousarray(images[first : first + BATCH].T)
        _walk(circuit, batch.shape[1], _Encoder(circuit, batch, starts, frequencies))
    return encode_operations(np.concatenate(starts), np.concatenate(frequencies))


def decode_lane(circuit: IntegerCircuit, data: bytes, count: int) -> NDArray[np.uint8]:
    """Decode ``count`` images written by :func:`encode_lane`: uint8 ``[count, variables]``.

    Raises :class:`CorruptFile` when the words do not end with the last image.
    """
    if count > LANE_IMAGES:
        raise CorruptFile(f"a lane holds at most {LANE_IMAGES} images, this one claims {count}")
    stack = AnsStack(data)
    images = np.empty((count, circuit.tree.size), np.uint8)
    for first in range(0, count, BATCH):
        batch = np.empty((circuit.tree.size, min(BATCH, count - first)), np.uint8)
        _walk(circuit, batch.shape[1], _Decoder(circuit, batch, stack))
        images[first : first + BATCH] = batch.T
    stack.check_exhausted()
    return images


def _walk(circuit: IntegerCircuit, count: int, coder: _PixelCoder) -> None:
    """Visit every variable depth first; what a variable knows comes down, what its subtree showed goes up."""
    cumulative, tree = circuit.cumulative_leaves, circuit.tree
    down, up = circuit.transition_tables, circuit.transposed_tables
    neutral = np.ones((count, circuit.states))

    def visit(variable: int, priors: NDArray[np.float64]) -> _Visit:
        below = np.empty_like(priors)
        absorb(cumulative[variable], coder.code(variable, priors), below)
        return _Visit(variable, priors, below)

    root = np.broadcast_to(circuit.root.astype(np.float64), neutral.shape).copy()
    multiply(root, neutral)
    path = [visit(tree.root, root)]
    while path:
        current = path[-1]
        children = tree.children[current.variable]
        if current.children_done < len(children):
            child = children[current.children_done]
            current.children_done += 1
            priors = np.empty_like(neutral)
            propagate(current.priors, current.below, down[child], priors)
            path.append(visit(child, priors))
            continue
        path.pop()
        if path:
            message = np.empty_like(neutral)
            propagate(current.below, neutral, up[current.variable], message)
            multiply(path[-1].below, message)


@dataclass(slots=True)
class _Encoder:
    circuit: IntegerCircuit
    batch: NDArray[np.uint8]
    starts: list[NDArray[np.uint32]]
    frequencies: list[NDArray[np.uint32]]

    def code(self, variable: int, priors: NDArray[np.float64]) -> NDArray[np.uint8]:
        classes = self.circuit.classes
        greys = self.batch[variable]
        numbers: NDArray[np.uint8] = classes.class_of_grey[greys]
        starts, frequencies = np.empty((2, len(greys)), np.uint32)
        encode_classes(priors, self.circuit.cumulative_leaves[variable], numbers, starts, frequencies)
        several = np.diff(classes.first_grey)[numbers] > 1
        inner = greys[several]
        self.starts += [starts, classes.starts[inner].astype(np.uint32)]
        self.frequencies += [frequencies, classes.frequencies[inner]]
        return numbers


@dataclass(slots=True)
class _Decoder:
    circuit: IntegerCircuit
    batch: NDArray[np.uint8]
    stack: AnsStack
    numbers: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = np.empty(self.batch.shape[1], np.uint8)

    def code(self, variable: int, priors: NDArray[np.float64]) -> NDArray[np.uint8]:
        classes, words, state = self.circuit.classes, self.stack.words, self.stack.state
        cumulative = self.circuit.cumulative_leaves[variable]
        decode_classes(priors, cumulative, words, state, self.numbers)
        decode_offsets(
            self.numbers,
            classes.first_grey,
            classes.starts,
            classes.frequencies,
            words,
            state,
            self.batch[variable],
        )
        return self.numbers
