"""EMS's selection stage: score every token, evict the least, merge the next ones into the best.

Li et al., "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local Importance"
(arXiv 2412.08521). The Global-Local score is ``max(s_glo * mean(s_loc) / mean(s_glo), s_loc)``; the best tokens of a
head are class centres, the next ones merge into the centre with the most similar key, weighted by their scores, or
into the zero class, which is dropped, where no centre is similar enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .selection import HeadSlots, all_tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["budget_slots", "global_local_score", "select_merged"]

_QUERIES = 256


def budget_slots(tokens: int, *, recent: int, budget_percent: int) -> int:
    """Slots of a head: ``budget_percent`` of its tokens, and at least ``recent`` and one more."""
    return min(tokens, max(-(-budget_percent * tokens // 100), recent + 1))


def global_local_score(mass: Floats) -> Floats:
    """The score of each token from its attention ``mass`` [tokens], the mean over the last 256 queries.

    The global score is the mass as it is, which favours old tokens: the last ones were not there for most queries. The
    local score is the mass for each query that could see the token.
    """
    queries = min(_QUERIES, mass.size)
    seen = np.minimum(np.arange(mass.size, 0, -1), queries)
    local = mass * (queries / seen).astype(np.float32)
    aligned = mass * np.float32(local.mean() / max(float(mass.mean()), 1e-30))
    result: Floats = np.maximum(aligned, local)
    return result


def select_merged(
    parts: tuple[Floats, ...], mass: Floats, *, recent: int, budget_percent: int, similarity_percent: int
) -> HeadSlots:
    """The slots of a head whose ``parts``, key first, are [tokens, width]; as many tokens merge as there are slots."""
    tokens = len(parts[0])
    slots = budget_slots(tokens, recent=recent, budget_percent=budget_percent)
    if slots == tokens:
        return all_tokens(parts, mass)
    score = global_local_score(mass)
    older = tokens - min(recent, slots)
    order = np.argsort(-score[:older], kind="stable")
    centres = np.sort(order[: slots - (tokens - older)])
    positions = np.concatenate([centres, np.arange(older, tokens)])
    others = order[centres.size : centres.size + slots]
    # only centres receive: recent tokens stay as they are
    target = np.full(others.size, -1)
    if centres.size and others.size:
        keys = parts[0] / np.maximum(np.linalg.norm(parts[0], axis=1, keepdims=True), 1e-20)
        similarity = keys[others] @ keys[centres].T
        best = similarity.argmax(axis=1)
        target = np.where(similarity.max(axis=1) >= similarity_percent / 100, best, -1)
    merged = others[target >= 0]
    target = target[target >= 0]
    weights = np.maximum(score, 1e-12)
    sums = weights[positions].astype(np.float32)
    np.add.at(sums, target, weights[merged])
    moved = []
    for part in parts:
        own = part[positions] * weights[positions, None]
        np.add.at(own, target, part[merged] * weights[merged, None])
        moved.append(np.where(np.isin(np.arange(slots), target)[:, None], own / sums[:, None], part[positions]))
    counts = np.ones(slots, np.int64)
    np.add.at(counts, target, 1)
    total = mass[positions].copy()
    np.add.at(total, target, mass[merged])
    return HeadSlots(positions=positions, counts=counts, parts=tuple(moved), mass=total)
