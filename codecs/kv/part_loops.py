# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""Compiled loops between the arrays of a cache and float32 parts: storage types, channel means, rotary embedding.

Parts are C-contiguous [heads, tokens, width]. Indices are unsigned wherever their sign is not plain to the compiler:
a check for negative ones would keep the loops from being vectorised. Half floats are converted with integers, because
NumPy converts them one by one.
"""

from __future__ import annotations

import numpy as np
from numba import float32, uint16, uint32, uint64

from ...entropy.native_compilation import compiled

__all__ = [
    "add_mean",
    "load_bfloat16",
    "load_float16",
    "load_float32",
    "store_bfloat16",
    "store_float16",
    "turn",
]

_1, _13, _16 = (uint32(n) for n in (1, 13, 16))
_MAGNITUDE = uint32(0x7FFFFFFF)
_EXPONENT = uint32(0x7F800000)
_HALF_ULP = uint32(0x0FFF)
_BELOW_TIE = uint32(0x7FFF)
_REBIAS = uint32(112 << 23)  # between the exponents of float32 and float16
_SMALLEST_NORMAL = uint32(113 << 23)
_HALF = uint32(0x3F000000)  # 0.5, whose last bit is worth the smallest half float
_TO_FLOAT = float32(2.0**112)


@compiled
def add_mean(values, mean):
    """Add ``mean`` [heads, width] in place."""
    heads, tokens, width = values.shape
    for head in range(heads):
        for token in range(tokens):
            for channel in range(width):
                values[head, token, channel] += mean[head, channel]


@compiled
def turn(values, cosines, sines, stride, partner):
    """Turn channel ``stride * i`` with the one ``partner`` after it, in place; tables are [tokens, pairs]."""
    heads, tokens, _ = values.shape
    pairs = cosines.shape[1]
    step, gap = uint64(stride), uint64(partner)
    for head in range(heads):
        for token in range(tokens):
            if stride == 1:
                for pair in range(pairs):
                    first = uint64(pair)
                    second = first + gap
                    x, y = values[head, token, first], values[head, token, second]
                    cosine, sine = cosines[token, first], sines[token, first]
                    values[head, token, first] = x * cosine - y * sine
                    values[head, token, second] = y * cosine + x * sine
            else:
                for pair in range(pairs):
                    first = step * uint64(pair)
                    second = first + gap
                    x, y = values[head, token, first], values[head, token, second]
                    cosine, sine = cosines[token, uint64(pair)], sines[token, uint64(pair)]
                    values[head, token, first] = x * cosine - y * sine
                    values[head, token, second] = y * cosine + x * sine


@compiled
def store_bfloat16(bits, target, first_token):
    """Round float32 ``bits`` to nearest, ties to even, into the uint16 array ``target`` from ``first_token`` on."""
    heads, tokens, width = bits.shape
    begin = uint64(first_token)
    for head in range(heads):
        for token in range(tokens):
            row = begin + uint64(token)
            for channel in range(width):
                value = bits[head, token, channel]
                target[head, row, channel] = uint16((value + _BELOW_TIE + ((value >> _16) & _1)) >> _16)


@compiled
def store_float16(values, target, first_token):
    """The same to float16 from float32 ``values``; return whether all of them fit."""
    heads, tokens, width = values.shape
    begin = uint64(first_token)
    row = np.empty(width, np.float32)
    shifted = np.empty(width, np.float32)
    bits, small = row.view(np.uint32), shifted.view(np.uint32)
    largest = uint32(0)
    for head in range(heads):
        for token in range(tokens):
            place = begin + uint64(token)
            for channel in range(width):
                row[channel] = values[head, token, channel]
                shifted[channel] = abs(values[head, token, channel]) + float32(0.5)
            for channel in range(width):
                magnitude = bits[channel] & _MAGNITUDE
                normal = (magnitude + _HALF_ULP + ((magnitude >> _13) & _1) - _REBIAS) >> _13
                half = normal if magnitude >= _SMALLEST_NORMAL else small[channel] - _HALF
                largest = max(largest, half)
                target[head, place, channel] = uint16(half | ((bits[channel] >> _16) & uint32(0x8000)))
    return largest < uint32(0x7C00)


@compiled
def load_bfloat16(stored, first_token, bits):
    """Fill float32 ``bits`` from uint16 ``stored`` from ``first_token`` on; return whether all values are finite."""
    heads, tokens, width = bits.shape
    begin = uint64(first_token)
    largest = uint32(0)
    for head in range(heads):
        for token in range(tokens):
            row = begin + uint64(token)
            for channel in range(width):
                value = uint32(stored[head, row, channel]) << _16
                largest = max(largest, value & _EXPONENT)
                bits[head, token, channel] = value
    return largest < _EXPONENT


@compiled
def load_float16(stored, first_token, bits, values):
    """The same from float16; ``values`` are the floats of ``bits``."""
    heads, tokens, width = bits.shape
    begin = uint64(first_token)
    largest = uint32(0)
    for head in range(heads):
        for token in range(tokens):
            row = begin + uint64(token)
            for channel in range(width):
                value = uint32(stored[head, row, channel])
                magnitude = value & uint32(0x7FFF)
                largest = max(largest, magnitude)
                bits[head, token, channel] = (magnitude << _13) | ((value & uint32(0x8000)) << _16)
            for channel in range(width):
                values[head, token, channel] *= _TO_FLOAT
    return largest < uint32(0x7C00)


@compiled
def load_float32(stored, first_token, bits):
    """The same from the bits of float32."""
    heads, tokens, width = bits.shape
    begin = uint64(first_token)
    largest = uint32(0)
    for head in range(heads):
        for token in range(tokens):
            row = begin + uint64(token)
            for channel in range(width):
                value = stored[head, row, channel]
                largest = max(largest, value & _EXPONENT)
                bits[head, token, channel] = value
    return largest < _EXPONENT
