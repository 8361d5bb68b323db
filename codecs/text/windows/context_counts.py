"""Counting which byte follows which context, order by order, keeping only contexts that occur often.

A context of order k + 1 is a context of order k and the byte before it. Each position of the text carries the number of
its context of the current order, so that one pass counts the next order whatever its length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled, inlined

__all__ = ["RESET", "UNIT", "ContextCounts", "CountSettings", "count_contexts"]

RESET = 256
"""The symbol before the first byte of a window: contexts that reach back to it know that the model was reset there."""

UNIT = 64
"""The count of a context's first occurrence in a document; later ones count less."""

_EMPTY = -1


@dataclass(frozen=True, slots=True)
class ContextCounts:
    """Contexts as a tree: ``parents`` is the context without its earliest symbol, ``symbols`` that symbol.

    Context 0 is empty. The bytes that follow context c are ``successors[starts[c] : starts[c + 1]]``, sorted; they
    were seen ``counts`` times, in units of 1/64, in ``documents`` documents (at most 255).
    """

    parents: NDArray[np.int32]
    symbols: NDArray[np.int16]
    starts: NDArray[np.int64]
    successors: NDArray[np.uint8]
    counts: NDArray[np.int32]
    documents: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSettings:
    """Which contexts are counted, and how.

    Contexts of up to ``longest`` bytes that occur at least ``least`` times, in at least ``least_documents`` documents;
    contexts that reach back to a reset, over at most ``longest_after_reset`` bytes, from a count of
    ``least_after_reset``. What follows a context of more than two bytes in fewer than ``successor_documents`` documents
    is not counted, nor in the context's total. The r-th occurrence of a context within one document counts
    r ** -``damping``: the words of one book should not speak for others. ``table_bits`` is log2 of the number of slots
    of the hash table, 16 bytes each.
    """

    longest: int = 10
    least: int = 16
    least_documents: int = 3
    successor_documents: int = 1
    longest_after_reset: int = 9
    least_after_reset: int = 4
    damping: float = 0.3
    table_bits: int = 25


def count_contexts(
    text: NDArray[np.uint8],
    document_starts: NDArray[np.int64],
    since_reset: NDArray[np.uint8] | None,
    settings: CountSettings,
    report: Callable[[str], None],
) -> ContextCounts:
    """Count contexts in ``text``, whose documents begin at ``document_starts`` and end at the next or the last of them.

    ``since_reset`` says for the place before each byte how many bytes of its window went before (at most 127), plus
    128 where a window begins; such a place is also the end of the window before it, whose length the lower bits give.
    """
    parents, symbols, keys, counts, spread = [np.array([-1], np.int32)], [np.array([-1], np.int16)], [], [], []
    ids = np.zeros(len(text), np.int32)
    first, made = 0, 1
    table = _Table(1 << settings.table_bits)
    small_table = _Table(1 << max(10, settings.table_bits - 3))
    ranks = np.maximum(1, np.round(UNIT * np.arange(1, 4097) ** -settings.damping)).astype(np.int32)
    for order in range(settings.longest + 1):
        contexts = made - first
        _count_successors(text, document_starts, ids, _NEVER, -1, ranks, contexts, table.cleared())
        found, seen, documents = table.entries(1, settings.successor_documents if order > 2 else 1)
        keys.append((found >> 8) + first << 8 | found & 255)
        counts.append(seen)
        spread.append(documents)
        if since_reset is not None and order <= settings.longest_after_reset:
            cleared = small_table.cleared()
            _count_successors(text, document_starts, ids, since_reset, order, ranks, contexts, cleared)
            found, seen, documents = small_table.entries(1, 1)
            owners, number = np.unique(found >> 8, return_inverse=True)
            kept = np.bincount(number, weights=seen, minlength=len(owners)) >= settings.least_after_reset * UNIT
            renumbered = np.cumsum(kept) - 1
            chosen = kept[number]
            parents.append((owners[kept] + first).astype(np.int32))
            symbols.append(np.full(int(kept.sum()), RESET, np.int16))
            keys.append((renumbered[number[chosen]] + made) << 8 | found[chosen] & 255)
            counts.append(seen[chosen])
            spread.append(documents[chosen])
            made += int(kept.sum())
        report(f"order {order}: {contexts:,} contexts, {made:,} in all")
        if order == settings.longest:
            break
        _count_extensions(text, document_starts, ids, order, table.cleared())
        found = table.renumber(settings.least, min(settings.least_documents, len(document_starts) - 1))
        _extend(text, document_starts, ids, order, table.slots)
        parents.append(((found >> 8) + first).astype(np.int32))
        symbols.append((found & 255).astype(np.int16))
        first, made = made, made + len(found)
    return _joined(parents, symbols, keys, counts, spread)


class _Table:
    """A hash table of counts: how often each key occurs, and in how many documents.

    A slot is two integers side by side, so that counting touches one line of memory: the key, and count << 32 |
    last document + 1 << 16 | number of documents.
    """

    def __init__(self, slots: int) -> None:
        self.slots = np.empty((slots, 2), np.int64)

    def cleared(self) -> NDArray[np.int64]:
        _clear(self.slots)
        return self.slots

    def entries(
        self, least: int, least_documents: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]:
        """The keys that occur often enough, sorted, with their counts and numbers of documents (at most 255)."""
        used = self._used()
        packed = self.slots[used, 1]
        enough = (packed >> 32 >= least) & (packed & 0xFFFF >= least_documents)
        keys, packed = self.slots[used[enough], 0], packed[enough]
        order = np.argsort(keys)
        packed = packed[order]
        documents: NDArray[np.uint8] = np.minimum(packed & 0xFFFF, 255).astype(np.uint8)
        return keys[order], (packed >> 32).astype(np.int32), documents

    def renumber(self, least: int, least_documents: int) -> NDArray[np.int64]:
        """Replace values by the number, in the order of keys, of what occurs often enough, -1 for others."""
        keys, _, _ = self.entries(least, least_documents)
        used = self._used()
        number = np.minimum(np.searchsorted(keys, self.slots[used, 0]), len(keys) - 1)
        kept = keys[number] == self.slots[used, 0] if len(keys) else np.zeros(len(used), np.bool_)
        self.slots[used, 1] = np.where(kept, number, -1)
        return keys

    def _used(self) -> NDArray[np.int64]:
        used = np.flatnonzero(self.slots[:, 0] != _EMPTY)
        if len(used) > 0.8 * len(self.slots):
            raise ValueError("the hash table of the counts is too small; raise table_bits")
        return used


_NEVER = np.empty(0, np.uint8)


def _joined(
    parents: list[NDArray[np.int32]],
    symbols: list[NDArray[np.int16]],
    keys: list[NDArray[np.int64]],
    counts: list[NDArray[np.int32]],
    spread: list[NDArray[np.uint8]],
) -> ContextCounts:
    all_keys, all_counts = np.concatenate(keys), np.concatenate(counts)
    order = np.argsort(all_keys, kind="stable")
    all_keys, all_counts = all_keys[order], all_counts[order]
    contexts = sum(len(item) for item in parents)
    starts = np.searchsorted(all_keys, np.arange(contexts + 1, dtype=np.int64) << 8)
    successors = (all_keys & 255).astype(np.uint8)
    return ContextCounts(
        np.concatenate(parents), np.concatenate(symbols), starts, successors, all_counts, np.concatenate(spread)[order]
    )


@compiled
def _clear(slots):  # type: ignore[no-untyped-def]
    for slot in range(len(slots)):
        slots[slot, 0] = _EMPTY
        slots[slot, 1] = 0


@inlined
def _slot(slots, key):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(slots) - 1)
    slot = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(22)) & mask
    while slots[slot, 0] != _EMPTY and slots[slot, 0] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@inlined
def _add(slots, key, document, weight):  # type: ignore[no-untyped-def]
    slot = _slot(slots, key)
    slots[slot, 0] = key
    value = slots[slot, 1] + (np.int64(weight) << 32)
    if (value >> 16) & 0xFFFF != document + 1:
        value = (value & ~np.int64(0xFFFF0000)) + ((document + 1) << 16) + 1
    slots[slot, 1] = value


@compiled
def _count_successors(  # type: ignore[no-untyped-def]
    text, document_starts, ids, since_reset, order, ranks, contexts, slots
):
    """Count (context, next byte); ``order`` >= 0 counts only places that many bytes after a reset."""
    seen = np.zeros(contexts, np.int32)  # occurrences of each context within the document
    within = np.full(contexts, -1, np.int32)
    for document in range(len(document_starts) - 1):
        for i in range(document_starts[document], document_starts[document + 1]):
            if ids[i] < 0:
                continue
            if order == 0:
                if since_reset[i] & 128 == 0:
                    continue
            elif order > 0 and since_reset[i] & 127 != order:
                continue
            context = ids[i]
            if within[context] != document:
                within[context] = document
                seen[context] = 0
            weight = ranks[min(seen[context], len(ranks) - 1)]
            seen[context] += 1
            _add(slots, np.int64(context) << 8 | np.int64(text[i]), document, weight)


@compiled
def _count_extensions(  # type: ignore[no-untyped-def]
    text, document_starts, ids, order, slots
):
    for document in range(len(document_starts) - 1):
        for i in range(document_starts[document] + order + 1, document_starts[document + 1]):
            if ids[i] >= 0:
                key = np.int64(ids[i]) << 8 | np.int64(text[i - order - 1])
                _add(slots, key, document, 1)


@compiled
def _extend(text, document_starts, ids, order, slots):  # type: ignore[no-untyped-def]
    for document in range(len(document_starts) - 1):
        start = document_starts[document]
        end = document_starts[document + 1]
        for i in range(start, min(start + order + 1, end)):
            ids[i] = -1
        for i in range(start + order + 1, end):
            if ids[i] >= 0:
                ids[i] = slots[_slot(slots, np.int64(ids[i]) << 8 | np.int64(text[i - order - 1])), 1]
