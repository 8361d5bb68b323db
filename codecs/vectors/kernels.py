# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
"""Loops over vectors compiled by Numba: rounding to codes and back, packing, and products with a projection.

No loop depends on how rows are grouped, and none lets the compiler reorder or fuse floating-point operations, so that a
row decodes to the same float32 bits alone, in a batch, and on every processor. All release the interpreter lock.
"""

from __future__ import annotations

import math

import numpy as np
from numba import uint64

from ...entropy.native_compilation import compiled, inlined

__all__ = [
    "count_codes",
    "join_floats",
    "look_up",
    "pack_codes",
    "project",
    "round_to_float",
    "round_to_uniform",
    "row_norms",
    "scale_rows",
    "split_floats",
    "transpose_words",
    "uniform_values",
    "unpack_codes",
]

_8, _16, _32 = (uint64(n) for n in (8, 16, 32))
_MASK8, _MASK16, _MASK32 = (uint64(n) for n in (0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF))


@compiled
def round_to_float(bits, codes, mantissa, lowest, exponent, largest):
    """Round float32 to a narrower floating-point format, to nearest and ties to even.

    Args:
        bits: uint32 [n], the bits of finite float32 values.
        codes: unsigned [n], filled with sign and magnitude of the narrow format.
        mantissa: its mantissa bits, at most 10.
        lowest: the float32 exponent field of its smallest normal number.
        exponent: values are multiplied by 2**exponent first.
        largest: the code of its largest finite magnitude, to which larger values are set.

    Returns:
        How many values were larger.
    """
    sign_shift = 31 - (codes.itemsize * 8 - 1)
    saturated = 0
    for i in range(bits.size):
        magnitude = int(bits[i]) & 0x7FFFFFFF
        field = magnitude >> 23
        significand = (magnitude & 0x7FFFFF) | (int(field > 0) << 23)
        above = max(field, 1) + exponent - lowest
        shift = min(23 - mantissa + max(-above, 0), 26)
        rounded = (significand + (1 << (shift - 1)) - 1 + ((significand >> shift) & 1)) >> shift
        code = (min(max(above, 0), 300) << mantissa) + rounded
        saturated += int(code > largest)
        codes[i] = min(code, largest) | ((int(bits[i]) & 0x80000000) >> sign_shift)
    return saturated


@compiled
def look_up(codes, table, values):
    """``values[i] = table[codes[i]]``, flat."""
    for i in range(codes.size):
        values[i] = table[codes[i]]


@compiled
def round_to_uniform(values, offset, inverse, top, codes):
    """Codes 0 to ``top`` of float32 ``values`` [n, d]: the nearest of ``offset + code / inverse``, each float32 [d]."""
    half, most = np.float32(0.5), np.float32(top + 0.5)
    for row in range(values.shape[0]):
        for j in range(values.shape[1]):
            level = (values[row, j] - offset[j]) * inverse[j] + half
            codes[row, j] = np.int32(min(max(level, np.float32(0)), most))


@compiled
def uniform_values(codes, offset, step, values):
    """``values = offset + code * step`` in float32, [n, d]."""
    for row in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[row, j] = offset[j] + step[j] * codes[row, j]


@compiled
def count_codes(codes, counts):
    """Add to ``counts``, int64 [d, alphabet], how often each code is in each row of ``codes``, uint8 [d, n]."""
    for j in range(codes.shape[0]):
        for i in range(codes.shape[1]):
            counts[j, codes[j, i]] += 1


@compiled
def split_floats(codes, mantissa, width, exponents, rest):
    """Cut wide floats into exponent field, uint8 [n], and sign and mantissa in ``width`` bytes, uint8 [n, width]."""
    mask = (1 << mantissa) - 1
    for i in range(codes.size):
        code = int(codes[i])
        exponents[i] = (code >> mantissa) & 255
        low = (code & mask) | ((code >> (mantissa + 8)) << mantissa)
        for byte in range(width):
            rest[i, byte] = (low >> (8 * byte)) & 255


@compiled
def join_floats(exponents, rest, mantissa, codes):
    """The inverse of :func:`split_floats`."""
    mask = (1 << mantissa) - 1
    for i in range(codes.size):
        low = 0
        for byte in range(rest.shape[1]):
            low |= int(rest[i, byte]) << (8 * byte)
        codes[i] = (low & mask) | int(exponents[i]) << mantissa | (low >> mantissa) << (mantissa + 8)


@compiled
def pack_codes(codes, width, packed):
    """Pack codes [n, d] of ``width`` < 8 bits into bytes [n, ceil(d * width / 8)], low bits first; the rest is zero."""
    for row in range(codes.shape[0]):
        held = 0
        have = 0
        position = 0
        for j in range(codes.shape[1]):
            held |= int(codes[row, j]) << have
            have += width
            if have >= 8:
                packed[row, position] = held & 255
                held >>= 8
                have -= 8
                position += 1
        if have:
            packed[row, position] = held


@compiled
def unpack_codes(packed, width, codes):
    """The inverse of :func:`pack_codes`."""
    mask = (1 << width) - 1
    for row in range(codes.shape[0]):
        held = 0
        have = 0
        position = 0
        for j in range(codes.shape[1]):
            if have < width:
                held |= int(packed[row, position]) << have
                have += 8
                position += 1
            codes[row, j] = held & mask
            held >>= width
            have -= width


@inlined
def _exchange(low, high, shift, mask):
    """Swap the blocks of ``low`` above ``shift`` with those of ``high`` below it."""
    moved = ((low >> shift) ^ high) & mask
    return low ^ (moved << shift), high ^ moved


@inlined
def _transpose_square(source, column, row, target):
    """Eight rows of eight bytes at once; the last axes of both are words of eight bytes."""
    j, word = 8 * column, row
    a, b, c, d = source[j, word], source[j + 1, word], source[j + 2, word], source[j + 3, word]
    e, f, g, h = source[j + 4, word], source[j + 5, word], source[j + 6, word], source[j + 7, word]
    a, e = _exchange(a, e, _32, _MASK32)
    b, f = _exchange(b, f, _32, _MASK32)
    c, g = _exchange(c, g, _32, _MASK32)
    d, h = _exchange(d, h, _32, _MASK32)
    a, c = _exchange(a, c, _16, _MASK16)
    b, d = _exchange(b, d, _16, _MASK16)
    e, g = _exchange(e, g, _16, _MASK16)
    f, h = _exchange(f, h, _16, _MASK16)
    a, b = _exchange(a, b, _8, _MASK8)
    c, d = _exchange(c, d, _8, _MASK8)
    e, f = _exchange(e, f, _8, _MASK8)
    g, h = _exchange(g, h, _8, _MASK8)
    i = 8 * row
    target[i, column], target[i + 1, column], target[i + 2, column], target[i + 3, column] = a, b, c, d
    target[i + 4, column], target[i + 5, column], target[i + 6, column], target[i + 7, column] = e, f, g, h


@compiled
def transpose_words(source, target):
    """Transpose bytes seen as uint64 words: ``source`` [d, n / 8] to ``target`` [n, d / 8], n and d multiples of 8."""
    rows, columns = source.shape[1], target.shape[1]
    for top in range(0, rows, 8):
        for column in range(columns):
            for row in range(top, min(top + 8, rows)):
                _transpose_square(source, column, row, target)


@inlined
def _add_products(first, second, x, y, matrix, i):
    """Add ``x[k] * matrix[k]`` to ``first``, ``y[k] * matrix[k]`` to ``second``, for k = i to i + 3 in their order."""
    x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
    y0, y1, y2, y3 = y[i], y[i + 1], y[i + 2], y[i + 3]
    row0, row1, row2, row3 = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
    for j in range(first.size):
        m0, m1, m2, m3 = row0[j], row1[j], row2[j], row3[j]
        first[j] = (((first[j] + x0 * m0) + x1 * m1) + x2 * m2) + x3 * m3
        second[j] = (((second[j] + y0 * m0) + y1 * m1) + y2 * m2) + y3 * m3


@compiled
def project(values, centre, matrix, offset, result):
    """``result = offset + (values - centre) @ matrix`` in float32, each sum in the order of the rows of ``matrix``.

    Four rows of the matrix stay in the innermost cache while sixteen rows of values pass over them, two by two.

    Args:
        values: [n, a]; centre: [a]; matrix: [a, b]; offset: [b]; result: [n, b].
    """
    rows, inner = values.shape
    x = np.zeros((16, inner), np.float32)
    unused = np.zeros(matrix.shape[1], np.float32)  # the partner of a last row without one
    for start in range(0, rows, 16):
        stop = min(start + 16, rows)
        for row in range(start, stop):
            for i in range(inner):
                x[row - start, i] = values[row, i] - centre[i]
            result[row, :] = offset
        i = 0
        while i + 4 <= inner:
            for row in range(start, stop, 2):
                second = result[row + 1] if row + 1 < stop else unused
                _add_products(result[row], second, x[row - start], x[row + 1 - start], matrix, i)
            i += 4
        while i < inner:
            for row in range(start, stop):
                only, single, target = x[row - start, i], matrix[i], result[row]
                for j in range(target.size):
                    target[j] = target[j] + only * single[j]
            i += 1


@compiled
def row_norms(values, norms):
    """Euclidean lengths, float32 [n], summed in float64 in order."""
    for row in range(values.shape[0]):
        total = 0.0
        for j in range(values.shape[1]):
            total += np.float64(values[row, j]) * np.float64(values[row, j])
        norms[row] = math.sqrt(total)


@compiled
def scale_rows(values, factors, result):
    """``result[n, d] = values[n, d] * factors[n]``."""
    for row in range(values.shape[0]):
        for j in range(values.shape[1]):
            result[row, j] = values[row, j] * factors[row]
