"""Equal-info windows: text to numbers of b bits and back.

The windows of arXiv 2404.03626, section 3.3, but with the interval of a window divided exactly (:mod:`.interval`),
so that any bytes and any end of the input are decoded uniquely, without padding and without coding a window twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....entropy.native_compilation import compiled, inlined
from ....formats.errors import CorruptFile
from .context_model import ContextModel, predict
from .interval import SCARCE, allocate, renormalised

__all__ = ["WINDOW_BITS", "WindowRule", "cut_into_windows", "decode_windows", "encode_windows", "information_bits"]

WINDOW_BITS = (16, 24, 32, 64, 128)

_FULL = -(1 << 62)
_CHOICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRule:
    """How text is cut into windows.

    ``bits`` per window. The model is reset at every ``reset_every``-th window; 0 means never. A ``delayed`` window
    ends when some byte could get no point, whatever the next byte is, so a decoder knows its end from what it has
    decoded; others end before the first byte that gets no point, or with ``fewest`` up to seven bytes earlier, where
    that lets the next window reach further. ``fewest`` needs a reset at every window and windows that are not delayed;
    decoding need not know of it.
    """

    bits: int = 16
    reset_every: int = 1
    delayed: bool = False
    fewest: bool = False


@inlined
def _shifted(units, exponent):  # type: ignore[no-untyped-def]
    """``units << exponent`` as the two halves of 128 bits."""
    value = np.uint64(units)
    if exponent == 0:
        return np.uint64(0), value
    if exponent >= 64:
        return value << np.uint64(exponent - 64), np.uint64(0)
    return value >> np.uint64(64 - exponent), value << np.uint64(exponent)


@compiled
def _window(  # type: ignore[no-untyped-def]
    model, data, start, stop, context_start, bits, delayed, scratch, number
):
    """Code one window from ``start``, to ``stop`` at most; set the halves of its ``number``, return where it ends."""
    shares, frequency, points = scratch
    rest = 0 if delayed else 1
    i = start
    exponent = max(0, bits - 32)
    units = np.int64(1) << (bits - exponent)
    top = np.uint64(0)
    bottom = np.uint64(0)
    while i < stop:
        free = units - rest
        first = delayed or i == start
        if free <= 0 or (first and free < 256):
            break
        predict(model, data, context_start, i, True, shares, frequency)
        allocate(frequency, free, first and free < SCARCE, points)
        y = data[i]
        if points[y] == 0:
            break
        before = np.int64(rest)
        for z in range(y):
            before += points[z]
        upper, lower = _shifted(before, exponent)
        bottom += lower
        top += upper
        if bottom < lower:
            top += np.uint64(1)
        units, exponent = renormalised(points[y], exponent)
        i += 1
    number[0] = top
    number[1] = bottom
    return i


@compiled
def _encode(model, data, bits, reset_every, delayed, choices, numbers, ends):  # type: ignore[no-untyped-def]
    """Fill ``numbers`` [windows, 2] with the halves of each window's number, ``ends`` with where in ``data`` it ends.

    A window ends at that of its last ``choices`` places from which the next window reaches furthest; 1 where not every
    window resets the model. Return the number of windows.
    """
    scratch = (np.empty(256, np.uint64), np.empty(256, np.int64), np.empty(256, np.int64))
    size = len(data)
    i = 0
    windows = 0
    context_start = 0
    while i < size:
        if reset_every > 0 and windows % reset_every == 0:
            context_start = i
        number = numbers[windows]
        end = _window(model, data, i, size, context_start, bits, delayed, scratch, number)
        if choices > 1 and end < size:
            best = end
            furthest = np.int64(0)
            for j in range(end, max(i, end - choices), -1):
                reached = _window(model, data, j, size, j, bits, delayed, scratch, numbers[windows + 1])
                if reached > furthest:
                    furthest = reached
                    best = j
            if best < end:
                end = _window(model, data, i, best, context_start, bits, delayed, scratch, number)
        i = end
        ends[windows] = i
        windows += 1
    return windows


@compiled
def _decode(model, high, low, bits, reset_every, delayed, open_ended, data):  # type: ignore[no-untyped-def]
    """Fill ``data`` and return its length, or where ``open_ended`` the length the windows have.

    The result is -1 - window for a number no encoder makes, -1 - windows for too few windows, and ``_FULL`` where
    ``data`` is too short for windows that are open-ended.
    """
    size = len(data)
    shares = np.empty(256, np.uint64)
    frequency = np.empty(256, np.int64)
    points = np.empty(256, np.int64)
    stop = 0 if delayed else 1
    i = 0
    context_start = 0
    for window in range(len(high)):
        if reset_every > 0 and window % reset_every == 0:
            context_start = i
        start = i
        exponent = max(0, bits - 32)
        units = np.int64(1) << (bits - exponent)
        top = high[window]
        bottom = low[window]
        while True:
            unit = np.int64(0)
            if exponent >= 64:
                if top >> np.uint64(exponent - 64) >= np.uint64(units):
                    return -1 - window
                unit = np.int64(top >> np.uint64(exponent - 64))
            elif exponent > 0:
                if top >> np.uint64(exponent) != 0:
                    return -1 - window
                unit = np.int64(top << np.uint64(64 - exponent) | bottom >> np.uint64(exponent))
            else:
                if top != 0 or bottom >> np.uint64(62) != 0:
                    return -1 - window
                unit = np.int64(bottom)
            if unit >= units:
                return -1 - window
            free = units - stop
            first = delayed or i == start
            if unit < stop or free <= 0 or (first and free < 256):
                break
            if i == size:
                if open_ended:
                    return _FULL
                break
            predict(model, data, context_start, i, True, shares, frequency)
            allocate(frequency, free, first and free < SCARCE, points)
            before = np.int64(stop)
            y = 0
            while y < 256 and before + points[y] <= unit:
                before += points[y]
                y += 1
            if y == 256:
                return -1 - window
            upper, lower = _shifted(before, exponent)
            if bottom < lower:
                top -= np.uint64(1)
            bottom -= lower
            top -= upper
            data[i] = y
            units, exponent = renormalised(points[y], exponent)
            i += 1
        if top != 0 or bottom != 0 or i == start:
            return -1 - window
    return i if open_ended or i == size else -1 - len(high)


@compiled
def _information(model, data, ends, reset_every):  # type: ignore[no-untyped-def]
    """-log2 of the model's probability of ``data`` cut at ``ends``, in bits: what perfect coding would take."""
    shares = np.empty(256, np.uint64)
    frequency = np.empty(256, np.int64)
    total = 0.0
    i = 0
    context_start = 0
    for window in range(len(ends)):
        if reset_every > 0 and window % reset_every == 0:
            context_start = i
        while i < ends[window]:
            predict(model, data, context_start, i, True, shares, frequency)
            total += 16.0 - np.log2(np.float64(frequency[data[i]]))
            i += 1
    return total


def encode_windows(data: NDArray[np.uint8], model: ContextModel, rule: WindowRule) -> NDArray[np.uint8]:
    """The windows of ``data`` as bytes [windows, bits / 8], the most significant first."""
    return cut_into_windows(data, model, rule)[0]


def cut_into_windows(
    data: NDArray[np.uint8], model: ContextModel, rule: WindowRule
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The windows of ``data`` as by :func:`encode_windows`, and where in ``data`` each ends [windows]."""
    numbers = np.empty((len(data) + 1, 2), np.uint64)
    ends = np.empty(len(data), np.int64)
    choices = _CHOICES if rule.fewest else 1
    count = int(_encode(model, data, rule.bits, rule.reset_every, rule.delayed, choices, numbers, ends))
    pairs = numbers[:count].astype(">u8").view(np.uint8).reshape(count, 16)
    return np.ascontiguousarray(pairs[:, 16 - rule.bits // 8 :]), ends[:count]


def decode_windows(
    windows: NDArray[np.uint8], size: int | None, model: ContextModel, rule: WindowRule, *, where: str = "windows"
) -> NDArray[np.uint8]:
    """The ``size`` bytes that ``windows`` [windows, bits / 8] hold; None: all there are (not for delayed windows).

    Raises :class:`CorruptFile` for a number no encoder makes and for too many or too few windows.
    """
    pairs = np.zeros((len(windows), 16), np.uint8)
    pairs[:, 16 - rule.bits // 8 :] = windows
    halves = pairs.view(">u8").astype(np.uint64)
    high, low = np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])
    data = np.empty(windows.size * 6 + 256 if size is None else size, np.uint8)
    shape = (rule.bits, rule.reset_every, rule.delayed)
    done = int(_decode(model, high, low, *shape, size is None, data))
    while done == _FULL:
        data = np.empty(2 * len(data), np.uint8)
        done = int(_decode(model, high, low, *shape, True, data))
    if done < 0:
        window = -1 - done
        problem = "no encoder makes it" if window < len(windows) else f"the windows end before {size or 0:,} bytes"
        raise CorruptFile(f"{where}: window {window:,}: {problem}")
    return data[:done]


def information_bits(data: NDArray[np.uint8], ends: NDArray[np.int64], model: ContextModel, rule: WindowRule) -> float:
    """What ``data`` is worth under the model, in bits, when its windows end at ``ends``."""
    return float(_information(model, data, ends, rule.reset_every))
