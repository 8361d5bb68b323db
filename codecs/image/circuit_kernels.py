"""Compiled inner loops of circuit coding. All values are integers held exactly in float64.

Message vectors have at most 20 bits and table entries 16, so a sum over at most 128 states stays below ``2**44``.
``fastmath`` may therefore reorder and fuse sums: no operation rounds.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .ans import peek, pop

__all__ = ["absorb", "decode_classes", "decode_offsets", "encode_classes", "multiply", "propagate"]

MESSAGE_BITS = 20
TOTAL = 1 << 24
ROW_SHIFT = 16
KEPT_BITS = 8
"""Bits of a cumulative sum kept below the unit of the total, see ``_start``."""

_EXACT = {"reassoc", "contract", "nsz"}


@numba.njit(fastmath=_EXACT, forceinline=True)
def _rescale(vector):  # type: ignore[no-untyped-def]
    """Shift a vector so that its largest entry has ``MESSAGE_BITS`` bits; no entry falls below one."""
    largest = vector[0]
    for state in range(1, len(vector)):
        largest = max(largest, vector[state])
    _, exponent = math.frexp(largest)
    factor = math.ldexp(1.0, MESSAGE_BITS - exponent)
    for state in range(len(vector)):
        vector[state] = max(np.floor(vector[state] * factor), 1.0)


@numba.njit(cache=True, nogil=True, fastmath=_EXACT)
def propagate(first, second, table, result):  # type: ignore[no-untyped-def]
    """``result = rescale(rescale(first * second) @ table)`` for every image; arrays ``[images, states]``."""
    images, states = first.shape
    product = np.empty(states)
    for image in range(images):
        for state in range(states):
            product[state] = first[image, state] * second[image, state]
        _rescale(product)
        out = result[image]
        out[:] = 0.0
        for state in range(states):
            weight = product[state]
            row = table[state]
            for target in range(states):
                out[target] += weight * row[target]
        _rescale(out)


@numba.njit(cache=True, nogil=True, fastmath=_EXACT)
def multiply(into, message):  # type: ignore[no-untyped-def]
    """``into = rescale(into * message)`` for every image."""
    for image in range(len(into)):
        row = into[image]
        for state in range(row.shape[0]):
            row[state] *= message[image, state]
        _rescale(row)


@numba.njit(cache=True, nogil=True, fastmath=_EXACT)
def absorb(cumulative, classes, result):  # type: ignore[no-untyped-def]
    """``result`` = rescaled likelihood of each image's class given each state."""
    for image in range(len(classes)):
        number = classes[image]
        row = result[image]
        for state in range(row.shape[0]):
            row[state] = cumulative[number + 1, state] - cumulative[number, state]
        _rescale(row)


@numba.njit(fastmath=_EXACT, forceinline=True)
def _start(prior, cumulative, number, mass, classes):  # type: ignore[no-untyped-def]
    """First slot of class ``number`` under the mixture of leaves weighted by ``prior``; every class owns a slot."""
    total = 0.0
    row = cumulative[number]
    for state in range(len(prior)):
        total += prior[state] * row[state]
    kept = np.int64(total) >> (ROW_SHIFT - KEPT_BITS)
    return kept * (TOTAL - classes) // (mass << KEPT_BITS) + number


@numba.njit(fastmath=_EXACT, forceinline=True)
def _mass(prior):  # type: ignore[no-untyped-def]
    total = 0.0
    for state in range(len(prior)):
        total += prior[state]
    return np.int64(total)


@numba.njit(cache=True, nogil=True, fastmath=_EXACT)
def encode_classes(priors, cumulative, classes, starts, frequencies):  # type: ignore[no-untyped-def]
    """Start and frequency of each image's class, written to uint32 ``starts`` and ``frequencies``."""
    count = cumulative.shape[0] - 1
    for image in range(len(classes)):
        prior = priors[image]
        mass = _mass(prior)
        start = _start(prior, cumulative, classes[image], mass, count)
        stop = _start(prior, cumulative, classes[image] + 1, mass, count)
        starts[image] = start
        frequencies[image] = stop - start


@numba.njit(cache=True, nogil=True, fastmath=_EXACT)
def decode_classes(priors, cumulative, words, coder, classes):  # type: ignore[no-untyped-def]
    """Decode one class per image into ``classes``; the first class is tried first."""
    count = cumulative.shape[0] - 1
    for image in range(len(classes)):
        prior = priors[image]
        mass = _mass(prior)
        slot = peek(coder)
        low, start = 0, np.int64(0)
        high, stop = 1, _start(prior, cumulative, 1, mass, count)
        if slot >= stop:
            low, start, high, stop = 1, stop, count, np.int64(TOTAL)
        while high - low > 1:
            middle = (low + high) >> 1
            edge = _start(prior, cumulative, middle, mass, count)
            if slot < edge:
                high, stop = middle, edge
            else:
                low, start = middle, edge
        pop(words, coder, start, stop - start)
        classes[image] = low


@numba.njit(cache=True, nogil=True)
def decode_offsets(classes, first_grey, starts, frequencies, words, coder, greys):  # type: ignore[no-untyped-def]
    """Decode each image's value within its class; classes of one value cost nothing."""
    for image in range(len(classes)):
        low, high = first_grey[classes[image]], first_grey[classes[image] + 1]
        if high - low > 1:
            slot = peek(coder)
            while high - low > 1:
                middle = (low + high) >> 1
                if slot < starts[middle]:
                    high = middle
                else:
                    low = middle
            pop(words, coder, starts[low], frequencies[low])
        greys[image] = low
