"""How much a model's predictions depend on each token of a cache, as whole octaves of energy.

The weight ``w`` of a token in one head means that an error there costs ``2**w`` times an error in a token that
receives unit attention. Attention mass from the last queries of the context says most of it, with two corrections
measured from gradients: the last tokens of a context have hardly been queried yet, but the text that follows attends
to them most; and the first tokens are attention sinks. Weights are chosen by the encoder and travel in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cache import CacheTable

__all__ = [
    "DISTANCE_EDGES",
    "MAX_WEIGHT",
    "MIN_WEIGHT",
    "SINK_TOKENS",
    "Sensitivity",
    "default_sensitivity",
    "distance_buckets",
    "token_weights",
]

# Distance from the end of the context; the last bucket is open.
DISTANCE_EDGES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SINK_TOKENS = 4
MIN_WEIGHT, MAX_WEIGHT = -16, 15

# Typical energies of SmolLM2-135M in units of attention mass, rounded to powers of two: sinks, then by distance.
_DEFAULT_SINKS = (7, 1, -11, -11)
_DEFAULT_BY_DISTANCE = (-2, -4, -5, -6, -6, -8, -9, -10, -11, -11, -11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Energy of a token as a function of its attention mass and place, per head of every layer in file order.

    ``energy = gain[bucket] * mass + floor[head, bucket]``, and at least ``sink[head, token]`` for the first tokens.
    ``mean_mass`` [head, bucket] stands in for the mass where none is given.
    """

    gain: NDArray[np.float32]
    floor: NDArray[np.float32]
    mean_mass: NDArray[np.float32]
    sink: NDArray[np.float32]


def distance_buckets(tokens: int) -> NDArray[np.int64]:
    """The bucket of each token of a context, by its distance from the end."""
    distance = np.arange(tokens - 1, -1, -1)
    return np.searchsorted(np.asarray(DISTANCE_EDGES), distance, side="right") - 1


def default_sensitivity(heads: int) -> Sensitivity:
    """A fixed rule for any model: sinks and the most recent tokens in finer steps."""
    buckets = len(DISTANCE_EDGES)
    by_distance = np.exp2(np.asarray(_DEFAULT_BY_DISTANCE, np.float32))
    background = np.float32(2.0**-11)
    return Sensitivity(
        gain=np.ones(buckets, np.float32),
        floor=np.tile(np.maximum(by_distance - background, 0), (heads, 1)).astype(np.float32),
        mean_mass=np.full((heads, buckets), background, np.float32),
        sink=np.tile(np.exp2(np.asarray(_DEFAULT_SINKS, np.float32)), (heads, 1)),
    )


def token_weights(
    table: CacheTable, sensitivity: Sensitivity, mass: tuple[NDArray[np.float32], ...] | None
) -> list[NDArray[np.int8]]:
    """The weights of every layer, int8 [heads, tokens of the layer].

    ``mass`` holds one array [heads, tokens] per layer, or is None.
    """
    buckets = distance_buckets(table.tokens)
    weights = []
    first_head = 0
    for number, layer in enumerate(table.layers):
        heads = slice(first_head, first_head + layer.parts[0].heads)
        first_head = heads.stop
        own = buckets[layer.first_token :]
        received = sensitivity.mean_mass[heads][:, own] if mass is None else mass[number]
        energy = sensitivity.gain[own] * received + sensitivity.floor[heads][:, own]
        if layer.first_token == 0:
            sinks = min(SINK_TOKENS, energy.shape[1])
            energy[:, :sinks] = np.maximum(energy[:, :sinks], sensitivity.sink[heads, :sinks])
        octaves = np.round(np.log2(np.maximum(energy, np.float32(2.0**MIN_WEIGHT))))
        weights.append(np.clip(octaves, MIN_WEIGHT, MAX_WEIGHT).astype(np.int8))
    return weights
