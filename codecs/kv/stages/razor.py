"""RazorAttention's selection stage: retrieval heads keep every token, others the ends and one for the rest.

Tang et al., "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads" (arXiv 2407.15891), section 3:
the dropped tokens of a head are replaced by a *compensation token*, the mean of their keys and the mean of their
values, which counts in the softmax as many times as tokens were dropped. Retrieval heads are those with the highest
induction and echo scores on repeated random tokens, which a profile holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .selection import HeadSlots, all_tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["local_slots", "retrieval_heads", "select_local"]


def retrieval_heads(induction: Floats, echo: Floats, *, induction_percent: int, echo_percent: int) -> NDArray[np.bool_]:
    """Which heads retrieve, bool [layers, heads], from their scores of the same shape.

    The best ``induction_percent`` and the best ``echo_percent`` of all heads, 14 and 1 in the paper.
    """
    chosen = np.zeros(induction.size, np.bool_)
    for scores, percent in ((induction, induction_percent), (echo, echo_percent)):
        count = -(-percent * scores.size // 100)
        chosen[np.argsort(-scores.ravel(), kind="stable")[:count]] = True
    return chosen.reshape(induction.shape)


def local_slots(tokens: int, *, sinks: int, local_percent: int) -> int:
    """Slots of a head that retrieves nothing: sinks, the compensation token and the last ``local_percent``."""
    local = -(-local_percent * tokens // 100)
    return min(tokens, sinks + 1 + local)


def select_local(parts: tuple[Floats, ...], mass: Floats | None, *, sinks: int, local_percent: int) -> HeadSlots:
    """Sinks, compensation token and local window of a head whose ``parts`` are [tokens, width]."""
    tokens = len(parts[0])
    slots = local_slots(tokens, sinks=sinks, local_percent=local_percent)
    if slots == tokens:
        return all_tokens(parts, mass)
    dropped = slice(sinks, tokens - (slots - sinks - 1))
    count = dropped.stop - dropped.start

    def joined(array: Floats, middle: Floats) -> Floats:
        return np.concatenate([array[:sinks], middle[None], array[dropped.stop :]])

    numbers = np.arange(tokens)
    return HeadSlots(
        positions=np.concatenate([numbers[:sinks], numbers[dropped.stop - 1 :]]),
        counts=np.concatenate([np.ones(sinks, np.int64), [count], np.ones(tokens - dropped.stop, np.int64)]),
        parts=tuple(joined(part, part[dropped].mean(axis=0)) for part in parts),
        mass=None if mass is None else joined(mass, mass[dropped].sum()),
    )
