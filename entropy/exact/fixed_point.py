"""Elementary functions in whole numbers: fixed point with 160 fractional bits.

Nothing here touches floating point or the platform's mathematical library, so a result is the same
integer wherever Python runs. Errors are a few units of the last of 160 bits.
"""

from __future__ import annotations

__all__ = ["FRACTION_BITS", "ONE", "exp_of_minus", "gaussian_mass", "integer_root", "power", "rounded"]

FRACTION_BITS = 160
ONE = 1 << FRACTION_BITS

# floor(2**160 / sqrt(2 * pi))
_INVERSE_SQRT_TWO_PI = 583054796007218040734191730443699882195345907504


def rounded(value: int, bits: int) -> int:
    """Fixed-point ``value`` to the nearest multiple of ``2**-bits``, in units of it."""
    shift = FRACTION_BITS - bits
    return (value + (1 << (shift - 1))) >> shift


def integer_root(value: int, degree: int) -> int:
    """The largest whole number whose ``degree``-th power is at most ``value``."""
    root = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * root + value // root ** (degree - 1)) // degree
        if better >= root:
            return root
        root = better


def power(base: int, exponent: int) -> int:
    """Fixed-point ``base`` (0 to 1) to a whole ``exponent`` >= 0."""
    result = ONE
    while exponent:
        if exponent & 1:
            result = result * base >> FRACTION_BITS
        base = base * base >> FRACTION_BITS
        exponent >>= 1
    return result


def exp_of_minus(exponent: int) -> int:
    """``exp(-x)`` of a fixed-point ``x`` >= 0, from its series after halving until ``x`` < 1/256."""
    halvings = max(exponent.bit_length() - FRACTION_BITS + 8, 0)
    reduced = exponent >> halvings
    total = term = ONE
    order = 0
    while term:
        order += 1
        term = term * reduced // (order * ONE)
        total += -term if order & 1 else term
    return power(total, 1 << halvings)


def gaussian_mass(x: int) -> int:
    """The mass of the standard normal density between 0 and a fixed-point ``x`` >= 0.

    All terms of the series ``phi(x) * (x + x**3 / 3 + x**5 / 15 + ...)`` are positive, so nothing
    cancels. From ``x = 12`` on the tail is below ``2**-108`` and counts as nothing.
    """
    if x >= 12 * ONE:
        return ONE // 2
    square = x * x >> FRACTION_BITS
    total = term = x
    order = 1
    while term:
        order += 2
        term = (term * square >> FRACTION_BITS) // order
        total += term
    density = exp_of_minus(square >> 1) * _INVERSE_SQRT_TWO_PI >> FRACTION_BITS
    return density * total >> FRACTION_BITS
