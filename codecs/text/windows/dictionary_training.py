"""Refining a dictionary of strings from counts, for fixed-width tokens.

Any set of strings that holds all 256 bytes is uniquely decodable, so neither stop points nor prefix closure are
needed. The strings are grown by joining neighbours, far beyond the size wanted, and then pruned round by round; both
rank strings by the tokens they save in the parse with fewest tokens (as PathPiece does, Schmidt et al. 2024,
"Tokenization Is More Than Compression"). What a string saves in the one document where it saves most does not count:
the names of one book's characters are no use in another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled
from .string_trie import build_trie, parse_fewest
from .strings import string_table

__all__ = ["DictionarySettings", "train_dictionary"]

_BYTES = [bytes([value]) for value in range(256)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionarySettings:
    """How a dictionary is refined.

    ``grown_size`` strings are made in ``growth_rounds``; then ``pruning_rounds`` bring the size down to ``size`` by
    equal factors, each replacing a share ``exchange`` of the strings by joined neighbours that save more. No string is
    longer than ``longest``.
    """

    size: int = 65535
    grown_size: int = 260_000
    growth_rounds: int = 8
    pruning_rounds: int = 12
    exchange: float = 0.03
    longest: int = 32


def train_dictionary(
    documents: Sequence[NDArray[np.uint8]], settings: DictionarySettings, report: Callable[[str], None]
) -> list[bytes]:
    """The ``settings.size`` strings that save most tokens on ``documents``, sorted; all single bytes among them."""
    strings = list(_BYTES)
    rounds = settings.growth_rounds + settings.pruning_rounds
    shrink = (settings.size / settings.grown_size) ** (1.0 / settings.pruning_rounds)
    size = float(settings.grown_size)
    for number in range(rounds):
        growing = number < settings.growth_rounds
        if not growing:
            size = max(settings.size, size * shrink)
        strings = _next_strings(strings, documents, round(size), growing, settings, report, number)
    return sorted(strings)


def _next_strings(
    strings: list[bytes],
    documents: Sequence[NDArray[np.uint8]],
    size: int,
    growing: bool,
    settings: DictionarySettings,
    report: Callable[[str], None],
    number: int,
) -> list[bytes]:
    table = string_table(strings)
    trie = build_trie(table)
    parses = [parse_fewest(document, trie) for document in documents]
    tokens = sum(len(parse) for parse in parses)
    size_bytes = sum(len(document) for document in documents)
    report(f"round {number}: {len(strings)} strings, {size_bytes / tokens:.4f} bytes per token")
    counts = _robust_counts(parses, len(strings))
    replacements = np.empty(len(strings), np.int32)
    scratch = np.empty(int(table.lengths.max()) + 1, np.int32)
    _count_replacements(table.pool, table.offsets, table.lengths, trie.units, trie.singles, scratch, replacements)
    savings = counts * (replacements - 1)
    most = size if growing else int(size * settings.exchange)
    joined = _joined_neighbours(parses, strings, most, settings.longest)
    ranked = [(int(savings[token]), string) for token, string in enumerate(strings) if len(string) > 1]
    ranked += joined
    ranked.sort(key=lambda item: (-item[0], item[1]))
    return _BYTES + [string for _, string in ranked[: size - 256]]


def _robust_counts(parses: Sequence[NDArray[np.int32]], kinds: int) -> NDArray[np.int64]:
    """How often each id occurs, less the document where it occurs most."""
    total = np.zeros(kinds, np.int64)
    most = np.zeros(kinds, np.int64)
    for parse in parses:
        counts = np.bincount(parse, minlength=kinds)
        total += counts
        np.maximum(most, counts, out=most)
    robust: NDArray[np.int64] = total - most if len(parses) > 1 else total
    return robust


@compiled
def _count_replacements(pool, offsets, lengths, units, singles, cost, replacements):  # type: ignore[no-untyped-def]
    """The fewest tokens that spell each string when it is itself no token."""
    for token in range(len(lengths)):
        start = np.int64(offsets[token])
        n = np.int64(lengths[token])
        cost[n] = 0
        for i in range(n - 1, -1, -1):
            least = cost[i + 1]
            slot = np.int64(0)
            for j in range(i, n):
                following = np.int64((units[slot] & np.uint64(0xFFFFFFFF)) >> np.uint64(1)) + np.int64(pool[start + j])
                if np.int64(units[following] >> np.uint64(32)) != slot:
                    break
                slot = following
                whole = i == 0 and j == n - 1
                if units[slot] & np.uint64(1) and not whole and cost[j + 1] < least:
                    least = cost[j + 1]
            cost[i] = least + 1
        replacements[token] = cost[0]


def _joined_neighbours(
    parses: Sequence[NDArray[np.int32]], strings: list[bytes], most: int, longest: int
) -> list[tuple[int, bytes]]:
    """The joined pairs of neighbouring tokens that occur most, as (count less the best document, string)."""
    kinds = len(strings)
    pairs = [parse[:-1].astype(np.int64) * kinds + parse[1:] for parse in parses]
    found, counts = np.unique(np.concatenate(pairs), return_counts=True)
    chosen = np.sort(found[np.argsort(-counts, kind="stable")[: 2 * most]])
    places = [np.searchsorted(chosen, item) for item in pairs]
    known = [
        place[chosen[np.minimum(place, len(chosen) - 1)] == item].astype(np.int32)
        for place, item in zip(places, pairs, strict=True)
    ]
    robust = _robust_counts([item[item < len(chosen)] for item in known], len(chosen))
    present = set(strings)
    joined: list[tuple[int, bytes]] = []
    for index in np.argsort(-robust, kind="stable").tolist():
        pair = int(chosen[index])
        string = strings[pair // kinds] + strings[pair % kinds]
        if len(string) <= longest and string not in present:
            present.add(string)
            joined.append((int(robust[index]), string))
            if len(joined) == most:
                break
    return joined
