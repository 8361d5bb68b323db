"""The statistical model of a cache: per part a mean, a transform, scales and a predictor from what came before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .cache import LayerTable

__all__ = ["MAGNITUDES", "CacheModel", "Feed", "PartModel", "Predictor", "history_layers", "history_size"]

MAGNITUDES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A linear predictor of rank at most ``rank``: ``history @ down @ up``.

    ``down`` is float32 [inputs, rank] and ``up`` float32 [rank, channels]. Inputs are the decoded coefficients of
    the layers of :func:`history_layers`, nearest first, then those of the earlier parts of the same layer.
    """

    down: NDArray[np.float32]
    up: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PartModel:
    """One part of one layer.

    Coefficients are ``(x - mean) @ analysis`` per head, and ``x = coefficients @ synthesis + mean``. ``mean`` is
    [heads, width], ``analysis`` and ``synthesis`` [heads, width, width]; ``scales`` int16 [heads, width] are the
    standard deviations of the prediction errors in sixths of an octave.
    """

    mean: NDArray[np.float32]
    synthesis: NDArray[np.float32]
    scales: NDArray[np.int16]
    predictor: Predictor | None

    @cached_property
    def analysis(self) -> NDArray[np.float32]:
        """The inverse of ``synthesis``, which decoders do without.

        Raises :class:`numpy.linalg.LinAlgError` where there is none.
        """
        inverse: NDArray[np.float32] = np.linalg.inv(self.synthesis.astype(np.float64)).astype(np.float32)
        return inverse


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How a part enters predictions: its rows of all their ``down`` side by side, and whose columns are which."""

    down: NDArray[np.float32]
    targets: tuple[tuple[tuple[int, int], slice], ...]


@dataclass(frozen=True, kw_only=True)
class CacheModel:
    """The model of every part, and what they share.

    ``reach`` is how many earlier layers a predictor sees; ``intra_every`` > 0 makes every such layer independent of
    its predecessors, which bounds what random access has to read. ``shifts`` [classes, 4] are how far, in steps,
    symbols of magnitude 0, 1, 2 and more are reconstructed towards zero.
    """

    parts: tuple[tuple[PartModel, ...], ...]
    reach: int
    intra_every: int
    shifts: NDArray[np.float32]

    @cached_property
    def feeds(self) -> Mapping[tuple[int, int], Feed]:
        """The feed of every (layer, part)."""
        pieces: dict[tuple[int, int], list[tuple[tuple[int, int], NDArray[np.float32]]]] = {
            (layer, part): [] for layer, row in enumerate(self.parts) for part in range(len(row))
        }
        for layer, row in enumerate(self.parts):
            earlier = history_layers(layer, reach=self.reach, intra_every=self.intra_every)
            for part, model in enumerate(row):
                if model.predictor is None:
                    continue
                sources = [(n, p) for n in earlier for p in range(len(self.parts[n]))]
                sources += [(layer, p) for p in range(part)]
                first = 0
                for source in sources:
                    last = first + self.parts[source[0]][source[1]].scales.size
                    pieces[source].append(((layer, part), model.predictor.down[first:last]))
                    first = last
        return {source: _feed(found) for source, found in pieces.items()}


def _feed(pieces: list[tuple[tuple[int, int], NDArray[np.float32]]]) -> Feed:
    if not pieces:
        return Feed(down=np.zeros((0, 0), np.float32), targets=())
    edges = np.cumsum([0, *(rows.shape[1] for _, rows in pieces)]).tolist()
    columns = [slice(a, b) for a, b in pairwise(edges)]
    down = np.ascontiguousarray(np.concatenate([rows for _, rows in pieces], axis=1))
    return Feed(down=down, targets=tuple(zip([target for target, _ in pieces], columns, strict=True)))


def history_layers(layer: int, *, reach: int, intra_every: int) -> list[int]:
    """The earlier layers that predict ``layer``, nearest first."""
    first = layer - layer % intra_every if intra_every else 0
    return list(range(layer - 1, max(first, layer - reach) - 1, -1))


def history_size(layers: tuple[LayerTable, ...], layer: int, part: int, *, reach: int, intra_every: int) -> int:
    """How many inputs the predictor of ``part`` of ``layer`` has."""
    earlier = sum(layers[number].channels for number in history_layers(layer, reach=reach, intra_every=intra_every))
    return earlier + sum(item.channels for item in layers[layer].parts[:part])
