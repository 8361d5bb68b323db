# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""The compiled loop from symbols to the slots of their tables, with what is needed for escapes and code lengths."""

from __future__ import annotations

from ...entropy.native_compilation import compiled

__all__ = ["fill_slots"]


@compiled
def fill_slots(symbols, classes, minima, maxima, slots, counts, escaped):
    """Fill ``slots`` (one past the last regular slot for symbols outside their table) and add to ``counts``.

    All arrays are flat but ``counts`` [classes, slots]. The first places of symbols that escape go to ``escaped``, as
    many as fit; returns how many there are.
    """
    found = 0
    for place in range(symbols.size):
        symbol, number = symbols[place], classes[place]
        low, high = minima[number], maxima[number]
        slot = symbol - low
        if symbol < low or symbol > high:
            slot = high - low + 1
            if found < escaped.size:
                escaped[found] = place
            found += 1
        slots[place] = slot
        counts[number, slot] += 1
    return found
