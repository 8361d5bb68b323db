"""Parsing bytes into the strings of a table: a double-array trie, longest-match and fewest-token parses.

A node is a slot of one array; the child of a node for a byte lies at the node's base plus the byte and names its
parent, so that a step costs one load (Aoe 1989, "An efficient digital search algorithm by using a double-array
structure").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled, inlined
from .strings import StringTable

__all__ = ["StringTrie", "build_trie", "parse_fewest", "parse_longest"]

_FREE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class StringTrie:
    """``units[slot]`` is parent << 32 | base << 1 | (whether a string ends here); ``tokens[slot]`` is its id.

    ``pairs`` is the slot after each pair of bytes (-1: no string begins so), which saves the first two steps;
    ``singles`` is the token of each single byte.
    """

    units: NDArray[np.uint64]
    tokens: NDArray[np.int32]
    pairs: NDArray[np.int32]
    singles: NDArray[np.int32]


def build_trie(table: StringTable) -> StringTrie:
    """The trie of a table that contains every single byte; empty strings are left out.

    Raises ``ValueError`` where a byte is missing.
    """
    most_nodes = int(table.lengths.sum(dtype=np.int64)) + 1
    node_parent = np.empty(most_nodes, np.int32)
    node_byte = np.empty(most_nodes, np.uint8)
    node_token = np.full(most_nodes, -1, np.int32)
    order = np.array(sorted(range(len(table)), key=table.string), np.int64)
    nodes = int(_grow(order, table.pool, table.offsets, table.lengths, node_parent, node_byte, node_token))
    # Children of the same parent adjacent, in the order the parents were made.
    by_parent = np.argsort(node_parent[1:nodes], kind="stable") + 1
    size = 2 * nodes + 1024
    while True:
        units = np.full(size, _FREE << 32, np.uint64)
        tokens = np.full(size, -1, np.int32)
        used = int(_place(by_parent, node_parent, node_byte, node_token, np.zeros(nodes, np.int64), units, tokens))
        if used >= 0:
            break
        size *= 2
    used += 256  # any base plus any byte stays inside
    units, tokens = units[:used].copy(), tokens[:used].copy()
    pairs = np.full(65536, -1, np.int32)
    singles = np.full(256, -1, np.int32)
    _fill_starts(units, tokens, pairs, singles)
    if singles.min() < 0:
        raise ValueError("a dictionary contains every single byte")
    return StringTrie(units, tokens, pairs, singles)


@compiled
def _grow(order, pool, offsets, lengths, parent, byte, token):  # type: ignore[no-untyped-def]
    """Nodes of the sorted strings; each shares the path of the one before as far as they agree."""
    path = np.zeros(int(lengths.max()) + 1, np.int64)
    previous = np.int64(0)
    previous_length = np.int64(0)
    nodes = 1
    for rank in range(len(order)):
        t = order[rank]
        start = np.int64(offsets[t])
        length = np.int64(lengths[t])
        shared = np.int64(0)
        while shared < min(length, previous_length) and pool[start + shared] == pool[previous + shared]:
            shared += 1
        for depth in range(shared, length):
            parent[nodes] = path[depth]
            byte[nodes] = pool[start + depth]
            path[depth + 1] = nodes
            nodes += 1
        if length > 0:
            token[path[length]] = t
        previous = start
        previous_length = length
    return nodes


@compiled
def _place(by_parent, parent, byte, token, slot_of, units, tokens):  # type: ignore[no-untyped-def]
    """First fit: give each node a base where all its children's slots are free; return the slots used, -1 if full."""
    free = 1
    highest = 1
    first = 0
    while first < len(by_parent):
        p = parent[by_parent[first]]
        last = first
        while last < len(by_parent) and parent[by_parent[last]] == p:
            last += 1
        while free < len(units) and units[free] >> np.uint64(32) != _FREE:
            free += 1
        base = max(np.int64(1), np.int64(free) - np.int64(byte[by_parent[first]]))
        while True:
            if base + 256 >= len(units):
                return -1
            fits = True
            for k in range(first, last):
                if units[base + byte[by_parent[k]]] >> np.uint64(32) != _FREE:
                    fits = False
                    break
            if fits:
                break
            base += 1
        own = slot_of[p]
        units[own] = (units[own] & ~np.uint64(0xFFFFFFFE)) | np.uint64(base << 1)
        for k in range(first, last):
            child = by_parent[k]
            slot = base + byte[child]
            slot_of[child] = slot
            units[slot] = np.uint64(own) << np.uint64(32) | np.uint64(token[child] >= 0)
            tokens[slot] = token[child]
            highest = max(highest, slot + 1)
        first = last
    return highest


@inlined
def _child(units, slot, byte):  # type: ignore[no-untyped-def]
    """The slot after ``byte``, or -1."""
    following = np.int64((units[slot] & np.uint64(0xFFFFFFFF)) >> np.uint64(1)) + np.int64(byte)
    return following if np.int64(units[following] >> np.uint64(32)) == slot else np.int64(-1)


@compiled
def _fill_starts(units, tokens, pairs, singles):  # type: ignore[no-untyped-def]
    for first in range(256):
        node = _child(units, np.int64(0), first)
        if node >= 0:
            singles[first] = tokens[node]
            if units[node] & np.uint64(0xFFFFFFFE):
                for second in range(256):
                    pairs[first << 8 | second] = _child(units, node, second)


@compiled
def _parse_longest(data, units, tokens, pairs, singles, out):  # type: ignore[no-untyped-def]
    n = len(data)
    i = 0
    count = 0
    while i + 1 < n:
        token = singles[data[i]]
        end = i + 1
        slot = np.int64(pairs[np.int64(data[i]) << 8 | np.int64(data[i + 1])])
        j = i + 2
        best = np.int64(-1)
        while slot >= 0:
            unit = units[slot]
            if unit & np.uint64(1):
                best = slot
                end = j
            if j >= n or not unit & np.uint64(0xFFFFFFFE):
                break
            following = np.int64((unit & np.uint64(0xFFFFFFFF)) >> np.uint64(1)) + np.int64(data[j])
            slot = following if np.int64(units[following] >> np.uint64(32)) == slot else np.int64(-1)
            j += 1
        out[count] = token if best < 0 else tokens[best]
        count += 1
        i = end
    if i < n:
        out[count] = singles[data[i]]
        count += 1
    return count


@compiled
def _parse_fewest(data, units, tokens, pairs, singles, out, cost, choice, length):  # type: ignore[no-untyped-def]
    """Dynamic programming from the end; among equals the longest first string wins."""
    n = len(data)
    cost[n] = 0
    for i in range(n - 1, -1, -1):
        least = cost[i + 1]
        token = singles[data[i]]
        taken = 1
        if i + 1 < n:
            slot = np.int64(pairs[np.int64(data[i]) << 8 | np.int64(data[i + 1])])
            j = i + 2
            while slot >= 0:
                unit = units[slot]
                if unit & np.uint64(1) and cost[j] <= least:
                    least = cost[j]
                    token = tokens[slot]
                    taken = j - i
                if j >= n or not unit & np.uint64(0xFFFFFFFE):
                    break
                following = np.int64((unit & np.uint64(0xFFFFFFFF)) >> np.uint64(1)) + np.int64(data[j])
                slot = following if np.int64(units[following] >> np.uint64(32)) == slot else np.int64(-1)
                j += 1
        cost[i] = least + 1
        choice[i] = token
        length[i] = taken
    i = 0
    count = 0
    while i < n:
        out[count] = choice[i]
        count += 1
        i += length[i]
    return count


def parse_longest(data: NDArray[np.uint8], trie: StringTrie) -> NDArray[np.int32]:
    """Token ids of ``data``, always taking the longest string that matches."""
    out = np.empty(len(data), np.int32)
    count = _parse_longest(data, trie.units, trie.tokens, trie.pairs, trie.singles, out)
    return out[:count].copy()


def parse_fewest(data: NDArray[np.uint8], trie: StringTrie) -> NDArray[np.int32]:
    """Token ids of ``data`` in as few tokens as the strings allow; needs 14 bytes of memory per byte."""
    size = len(data)
    out = np.empty(size, np.int32)
    cost = np.empty(size + 1, np.int32)
    choice = np.empty(size, np.int32)
    length = np.empty(size, np.uint16)
    count = _parse_fewest(data, trie.units, trie.tokens, trie.pairs, trie.singles, out, cost, choice, length)
    return out[:count].copy()
