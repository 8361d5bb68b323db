"""Learning each preset's starting state: the model codes text the memory has not seen, and keeps what it learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .contexts import fresh_registers
from .logistic import logistic_tables
from .model_state import ModelState, allocate_state, model_shape
from .predictor import ENCODE, code_block
from .presets import PRESETS, Preset
from .priming import PROFILES, take_snapshot
from .recall import MEMORY_ORDERS
from .workspace import allocate_workspace

__all__ = ["train_snapshots"]

# What carries over from one document to the next; tables of contexts and matches start empty, as in a real file.
_LEARNED = ("history_maps", "run_maps", "match_maps", "memory_maps", "weights", "final_weights")


def train_snapshots(
    memory: NDArray[np.uint16], documents: Mapping[str, Sequence[bytes]], log: Callable[..., None]
) -> dict[str, NDArray[np.generic]]:
    """The tensors of every preset and profile.

    Args:
        memory: the finished n-gram memory.
        documents: texts to learn from, by profile.
        log: called with ``event=...`` and figures after each snapshot.
    """
    tensors: dict[str, NDArray[np.generic]] = {}
    for preset in PRESETS:
        for profile in PROFILES:
            texts = _interleaved(documents[profile])
            state, coded_bytes = _learn(preset, memory, texts)
            fresh = allocate_state(preset, MEMORY_ORDERS if preset.uses_memory else 0, 1)
            tensors |= take_snapshot(preset, profile, state, fresh)
            size = sum(len(text) for text in texts)
            log(event="snapshot", preset=preset.name, profile=profile, bytes=size, bits_per_byte=8 * coded_bytes / size)
    return tensors


def _interleaved(texts: Sequence[bytes]) -> list[bytes]:
    """The texts in an order that spreads every source over the whole sequence."""
    order = sorted(range(len(texts)), key=lambda index: index * 0.6180339887498949 % 1.0)
    return [texts[index] for index in order]


def _learn(preset: Preset, memory: NDArray[np.uint16], texts: Sequence[bytes]) -> tuple[ModelState, int]:
    """The state after coding every text from empty tables, and the coded size of all."""
    orders = MEMORY_ORDERS if preset.uses_memory else 0
    carried: ModelState | None = None
    coded_bytes = 0
    for text in texts:
        state = allocate_state(preset, orders, len(text))
        if carried is not None:
            for name in _LEARNED:
                getattr(state, name)[:] = getattr(carried, name)
        coded = np.empty(2 * len(text) + 16, np.uint8)
        shape = model_shape(preset, orders, primed=carried is not None)
        coded_bytes += code_block(
            ENCODE,
            np.frombuffer(text, np.uint8).copy(),
            len(text),
            coded,
            shape,
            logistic_tables(),
            state,
            memory if orders else memory[:16],
            fresh_registers(),
            allocate_workspace(shape),
        )
        carried = state
    if carried is None:
        raise ValueError("no documents to learn a starting state from")
    return carried, coded_bytes
