# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""Compiled loops from CacheGen's symbols to float32 parts [heads, tokens, width], C-contiguous."""

from __future__ import annotations

import numpy as np
from numba import float32, int8, int32, uint32, uint64

from ...entropy.native_compilation import compiled

__all__ = ["count_slots", "fill_entries", "quantise_groups", "restore_deltas", "restore_maxima", "whole_symbols"]

_LIMIT = float32(1 << 30)


@compiled
def whole_symbols(codes, centres, places, escaped, symbols):
    """Fill int32 ``symbols`` [samples, channels] from codes modulo 256, escapes and the centres of the channels."""
    samples, channels = codes.shape
    for sample in range(samples):
        for channel in range(channels):
            symbols[sample, channel] = int32(int8(codes[sample, channel])) + int32(centres[channel])
    for number in range(places.size):
        sample, channel = divmod(places[number], channels)
        symbols[sample, channel] = escaped[number] + centres[channel]


@compiled
def quantise_groups(values, anchors, scales, step, group_tokens, deltas):
    """Fill int32 ``deltas`` with the distances of float32 ``values`` [tokens, channels] from their decoded anchors."""
    tokens, channels = values.shape
    for token in range(tokens):
        group = token // group_tokens
        if token == group * group_tokens:
            continue
        row = token - group - 1
        scale = scales[group]
        for channel in range(channels):
            delta = np.rint((values[token, channel] - float32(anchors[group, channel]) * scale) / step)
            deltas[row, channel] = int32(min(_LIMIT, max(-_LIMIT, delta)))


@compiled
def restore_deltas(anchors, deltas, scales, step, group_tokens, values):
    """Anchors times their scale [groups], and deltas times ``step`` on top of them."""
    heads, tokens, width = values.shape
    for head in range(heads):
        first = uint64(head * width)
        for token in range(tokens):
            group = token // group_tokens
            inside = token - group * group_tokens
            scale = scales[group]
            if inside == 0:
                for channel in range(width):
                    values[head, token, channel] = float32(anchors[group, first + uint64(channel)]) * scale
            else:
                row = token - group - 1
                for channel in range(width):
                    place = first + uint64(channel)
                    anchor = float32(anchors[group, place]) * scale
                    values[head, token, channel] = anchor + float32(deltas[row, place]) * step


@compiled
def restore_maxima(symbols, scales, values):
    """Symbols times the scale of their token, [tokens]."""
    heads, tokens, width = values.shape
    for head in range(heads):
        first = uint64(head * width)
        for token in range(tokens):
            for channel in range(width):
                values[head, token, channel] = float32(symbols[token, first + uint64(channel)]) * scales[token]


@compiled
def fill_entries(symbols, centres, classes, minima, sizes, stride, costs, entries, places, escaped):
    """Fill the ``entries`` of a coder (:mod:`.quantisation`) from int32 ``symbols`` [samples, channels].

    Escapes go to ``places`` (flat) and ``escaped`` (less their centre). Returns how many there are, and the bits of all
    other symbols.
    """
    samples, channels = symbols.shape
    found = 0
    bits = 0.0
    for sample in range(samples):
        row_bits = float32(0.0)
        for channel in range(channels):
            number = uint64(classes[channel])
            symbol = symbols[sample, channel] - int32(centres[channel])
            slot = uint32(symbol - minima[number])
            if slot >= sizes[number]:
                slot = sizes[number]
                places[found] = sample * channels + channel
                escaped[found] = symbol
                found += 1
            entry = number * stride + uint64(slot)
            entries[sample, channel] = entry
            row_bits += costs[entry]
        bits += row_bits
    return found, bits


@compiled
def count_slots(symbols, centres, lowest, slots, counts):
    """Add to ``counts`` [channels * slots] the ``symbols`` [samples, channels] less their centres.

    The first slot is that of ``lowest``; the last one counts what lies outside.
    """
    samples, channels = symbols.shape
    for sample in range(samples):
        for channel in range(channels):
            slot = symbols[sample, channel] - int32(centres[channel]) - lowest
            if slot < 0 or slot >= slots - 1:
                slot = slots - 1
            counts[channel * slots + slot] += uint32(1)
