"""From counts to a small model: which bytes a context must predict better than its shorter context does.

Every context mixes a few bytes' weights over the prediction of the next shorter context; see
:mod:`.context_model` for how. Contexts are visited depth first, so that the pruned and rounded prediction of the
shorter context is at hand when the savings of a longer one are judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled, inlined
from .context_counts import UNIT, ContextCounts

__all__ = ["PruneSettings", "PrunedContexts", "prune_contexts", "weight_levels"]

_LEVELS = 64


@dataclass(frozen=True, slots=True)
class PrunedContexts:
    """The contexts that remain, breadth first, siblings by symbol.

    ``child_counts`` and ``symbols`` describe the tree, ``entry_counts``, ``entry_bytes`` and ``entry_levels`` the
    weighted bytes of each context; ``root`` is the prediction of the empty context, of sum 65,536.
    """

    child_counts: NDArray[np.int64]
    symbols: NDArray[np.int16]
    entry_counts: NDArray[np.int64]
    entry_bytes: NDArray[np.uint8]
    entry_levels: NDArray[np.uint8]
    root: NDArray[np.uint32]


def weight_levels() -> NDArray[np.uint32]:
    """The weights an entry can have, of 65,536: evenly spaced log-odds from 2^-11 to 0.995."""
    odds = np.exp(np.linspace(np.log(2.0**-11), np.log(0.995 / 0.005), _LEVELS))
    weights: NDArray[np.uint32] = np.round(65536.0 * odds / (1.0 + odds)).astype(np.uint32)
    return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSettings:
    """What is worth keeping.

    A byte of a context is kept where that saves ``least_bits`` on the counted text; a context none of whose descendants
    is kept must save ``node_bits`` in all. ``discount`` is taken off every count and given to the shorter context's
    prediction (absolute discounting, Ney et al. 1994), and so is ``document_share`` of what the average document added
    to the count: what would be missing if one document had not been read. What is taken off follows the prediction of
    the longest shorter context seen ``independence`` times as often: one seen hardly more often has seen the same.
    """

    least_bits: float = 4.0
    node_bits: float = 6.0
    discount: float = 0.5
    document_share: float = 1.0
    independence: float = 2.0


def prune_contexts(counts: ContextCounts, settings: PruneSettings) -> PrunedContexts:
    """The contexts and bytes worth keeping, with rounded weights."""
    levels = weight_levels()
    root_counts = np.zeros(256, np.int64)
    first, last = counts.starts[0], counts.starts[1]
    root_counts[counts.successors[first:last]] = counts.counts[first:last]
    root = _root_prediction(root_counts)
    contexts = len(counts.parents)
    order = np.argsort(counts.parents, kind="stable")[1:]  # children by parent, the root itself left out
    child_starts = np.searchsorted(counts.parents[order], np.arange(contexts + 1))
    kept = np.zeros(len(counts.successors), np.uint8)  # level + 1 of what is kept
    _prune(
        order,
        child_starts,
        counts.starts,
        counts.successors,
        counts.counts,
        counts.documents,
        settings.document_share,
        settings.independence,
        root / 65536.0,
        levels / 65536.0,
        settings.least_bits * UNIT,
        settings.node_bits * UNIT,
        settings.discount * UNIT,
        kept,
    )
    return _compacted(counts, kept, root)


def _root_prediction(counts: NDArray[np.int64]) -> NDArray[np.uint32]:
    root = 1 + (counts * (65536 - 256) // max(1, int(counts.sum()))).astype(np.int64)
    root[int(np.argmax(root))] += 65536 - int(root.sum())
    return root.astype(np.uint32)


@inlined
def _level_of(weight, levels):  # type: ignore[no-untyped-def]
    """The level nearest in log-odds; 0 below half the lowest."""
    low = 0
    high = len(levels) - 1
    while low < high:
        middle = (low + high) >> 1
        # between two neighbours the boundary is their geometric mean
        if weight * weight > levels[middle] * levels[middle + 1]:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _prune_node(  # type: ignore[no-untyped-def]
    first,
    last,
    total,
    successors,
    counts,
    documents,
    share,
    parent,
    prior,
    levels,
    least_bits,
    discount,
    kept,
    prediction,
):
    """Choose the entries of one context and set its ``prediction``; return the bits saved.

    What counts are discounted by follows ``prior``; savings are over ``parent``.
    """
    released = 0.0
    for k in range(first, last):
        released += min(discount + share * counts[k] / documents[k], np.float64(counts[k]))
    kept_mass = 0.0
    kept_parent = 0.0
    for k in range(first, last):
        y = successors[k]
        p = (max(0.0, counts[k] - discount - share * counts[k] / documents[k]) + released * prior[y]) / total
        if p > parent[y] and p * total * np.log2(p / parent[y]) >= least_bits and p > levels[0]:
            kept[k] = 1
            kept_mass += p
            kept_parent += parent[y]
    if kept_mass == 0.0:
        return 0.0
    rest = max(1.0 / 512, 1.0 - kept_mass) / max(1e-9, 1.0 - kept_parent)
    weights = 0.0
    for k in range(first, last):
        if kept[k]:
            y = successors[k]
            p = (max(0.0, counts[k] - discount - share * counts[k] / documents[k]) + released * prior[y]) / total
            weight = p - rest * parent[y]
            if weight < 0.7 * levels[0]:
                kept[k] = 0
                continue
            level = _level_of(weight, levels)
            while level > 0 and weights + levels[level] > 0.998:
                level -= 1
            weights += levels[level]
            kept[k] = level + 1
    for y in range(256):
        prediction[y] = parent[y] * (1.0 - weights)
    for k in range(first, last):
        if kept[k]:
            prediction[successors[k]] += levels[kept[k] - 1]
    saved = 0.0
    for k in range(first, last):
        saved += counts[k] * np.log2(prediction[successors[k]] / parent[successors[k]])
    return saved


@compiled
def _prune(  # type: ignore[no-untyped-def]
    children,
    child_starts,
    starts,
    successors,
    counts,
    documents,
    share,
    independence,
    root,
    levels,
    least_bits,
    node_bits,
    discount,
    kept,
):
    deepest = 64
    predictions = np.zeros((deepest, 256))
    predictions[0] = root
    node = np.zeros(deepest, np.int64)
    following = np.zeros(deepest, np.int64)
    used = np.zeros(deepest, np.bool_)
    saved = np.zeros(deepest)
    totals = np.zeros(deepest)
    depth = 0
    following[0] = child_starts[0]
    while depth >= 0:
        if following[depth] < child_starts[node[depth] + 1]:
            child = children[following[depth]]
            following[depth] += 1
            depth += 1
            node[depth] = child
            following[depth] = child_starts[child]
            used[depth] = False
            first = starts[child]
            last = starts[child + 1]
            totals[depth] = 0.0
            for k in range(first, last):
                totals[depth] += counts[k]
            prior = depth - 1
            while prior > 0 and totals[prior] < independence * totals[depth]:
                prior -= 1
            saved[depth] = _prune_node(
                first,
                last,
                totals[depth],
                successors,
                counts,
                documents,
                share,
                predictions[depth - 1],
                predictions[prior],
                levels,
                least_bits,
                discount,
                kept,
                predictions[depth],
            )
            if saved[depth] == 0.0:
                predictions[depth] = predictions[depth - 1]
        else:
            if depth > 0:
                here = node[depth]
                if not used[depth] and saved[depth] < node_bits:
                    for k in range(starts[here], starts[here + 1]):
                        kept[k] = 0
                elif saved[depth] > 0.0 or used[depth]:
                    used[depth - 1] = True
            depth -= 1


@compiled
def _mark_needed(parents, starts, kept, needed):  # type: ignore[no-untyped-def]
    needed[0] = True
    for context in range(len(parents) - 1, 0, -1):
        for k in range(starts[context], starts[context + 1]):
            if kept[k]:
                needed[context] = True
                break
        if needed[context]:
            needed[parents[context]] = True


def _compacted(counts: ContextCounts, kept: NDArray[np.uint8], root: NDArray[np.uint32]) -> PrunedContexts:
    """What is kept, renumbered breadth first."""
    contexts = len(counts.parents)
    needed = np.zeros(contexts, np.bool_)
    _mark_needed(counts.parents, counts.starts, kept, needed)
    number = np.full(contexts, -1, np.int64)
    number[0] = 0
    level = np.zeros(1, np.int64)
    ranks: list[NDArray[np.int64]] = [level]
    remaining = np.flatnonzero(needed)[1:]
    made = 1
    while len(remaining):
        at_hand = number[counts.parents[remaining]] >= 0
        level = remaining[at_hand]
        level = level[np.lexsort((counts.symbols[level], number[counts.parents[level]]))]
        number[level] = made + np.arange(len(level))
        made += len(level)
        ranks.append(level)
        remaining = remaining[~at_hand]
    old = np.concatenate(ranks)
    child_counts = np.bincount(number[counts.parents[old[1:]]], minlength=len(old))
    entry_counts = np.add.reduceat(np.append(kept > 0, False), counts.starts[:-1], dtype=np.int64)[old]
    entry_counts[counts.starts[old] == counts.starts[old + 1]] = 0
    entry_counts[0] = 0
    kept[counts.starts[0] : counts.starts[1]] = 0  # the empty context has its own prediction
    owner = np.repeat(number, np.diff(counts.starts))
    chosen = np.flatnonzero(kept)
    chosen = chosen[np.argsort(owner[chosen], kind="stable")]
    return PrunedContexts(
        child_counts,
        counts.symbols[old],
        entry_counts,
        counts.successors[chosen],
        kept[chosen] - np.uint8(1),
        root,
    )
