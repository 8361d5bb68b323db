"""Structure of a hidden Chow-Liu tree: which pixel hangs on which (Chow and Liu, 1968)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import CorruptFile

__all__ = ["Tree", "chow_liu_tree", "mutual_information"]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A rooted tree over variables ``0 .. size - 1``; ``parents[root]`` is -1."""

    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.parents.count(-1) != 1 or len(self.preorder) != len(self.parents):
            raise CorruptFile("the circuit's structure is not a tree with one root")

    @property
    def size(self) -> int:
        return len(self.parents)

    @property
    def root(self) -> int:
        return self.parents.index(-1)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Children of each variable in ascending order."""
        lists: list[list[int]] = [[] for _ in self.parents]
        for variable, parent in enumerate(self.parents):
            if not -1 <= parent < self.size:
                raise CorruptFile(f"variable {variable} of the circuit hangs on variable {parent}")
            if parent >= 0:
                lists[parent].append(variable)
        return tuple(tuple(items) for items in lists)

    @cached_property
    def preorder(self) -> tuple[int, ...]:
        """Variables depth first, each before its children: the coding order."""
        order, pending = [], [self.root]
        while pending:
            variable = pending.pop()
            order.append(variable)
            pending.extend(reversed(self.children[variable]))
        return tuple(order)

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Variables by distance from the root."""
        rows: list[tuple[int, ...]] = [(self.root,)]
        while rows[-1]:
            rows.append(tuple(child for item in rows[-1] for child in self.children[item]))
        return tuple(rows[:-1])


def chow_liu_tree(classes: NDArray[np.uint8], alphabet: int) -> Tree:
    """The tree of largest mutual information over ``classes`` ``[images, variables]``, rooted at its centre.

    Values are below ``alphabet``. The centre of the longest path as root makes the tree as shallow as can be.
    """
    weights = mutual_information(classes, alphabet)
    return _rooted_at_centre(_maximum_spanning_edges(weights))


def mutual_information(classes: NDArray[np.uint8], alphabet: int) -> NDArray[np.float64]:
    """Pairwise mutual information in nats, ``[variables, variables]``, from counts with a pseudo-count."""
    import torch

    images, variables = classes.shape
    values = torch.from_numpy(classes.astype(np.int64))
    one_hot = torch.zeros(images, variables, alphabet)
    one_hot.scatter_(2, values[:, :, None], 1.0)
    flat = one_hot.view(images, variables * alphabet)
    pseudo = 0.01 / alphabet**2
    joint = (flat.T @ flat).view(variables, alphabet, variables, alphabet) + pseudo
    joint = joint / joint.sum((1, 3), keepdim=True)
    rows, columns = joint.sum(3, keepdim=True), joint.sum(1, keepdim=True)
    result: NDArray[np.float64] = (joint * (joint / (rows * columns)).log()).sum((1, 3)).double().numpy()
    return result


def _maximum_spanning_edges(weights: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Prim's algorithm on a dense matrix."""
    size = len(weights)
    best, nearest = weights[0].copy(), np.zeros(size, np.int64)
    outside = np.ones(size, bool)
    outside[0] = False
    edges = []
    for _ in range(size - 1):
        chosen = int(np.where(outside, best, -np.inf).argmax())
        edges.append((int(nearest[chosen]), chosen))
        outside[chosen] = False
        closer = outside & (weights[chosen] > best)
        best[closer], nearest[closer] = weights[chosen][closer], chosen
    return edges


def _rooted_at_centre(edges: Sequence[tuple[int, int]]) -> Tree:
    neighbours: list[list[int]] = [[] for _ in range(len(edges) + 1)]
    for first, second in edges:
        neighbours[first].append(second)
        neighbours[second].append(first)
    one_end = _walk(neighbours, 0)[1][-1]
    parents, order = _walk(neighbours, one_end)
    path = [order[-1]]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    return Tree(parents=tuple(_walk(neighbours, path[len(path) // 2])[0]))


def _walk(neighbours: list[list[int]], start: int) -> tuple[list[int], list[int]]:
    """Parents and breadth-first order from ``start``; the last of the order is farthest away."""
    parents, order, seen = [-1] * len(neighbours), [start], {start}
    for item in order:
        for other in neighbours[item]:
            if other not in seen:
                seen.add(other)
                parents[other] = item
                order.append(other)
    return parents, order
