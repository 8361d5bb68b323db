"""The compiled loops around parts do what NumPy does, for every half float and for rounding at its borders."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from codeckit.codecs.kv.number_formats import from_float32, to_float32
from codeckit.codecs.kv.part_loops import load_bfloat16, load_float16, store_bfloat16, store_float16
from codeckit.codecs.kv.placement import Turns
from codeckit.codecs.kv.rotary import rotate, unrotate
from codeckit.formats.tensors import Tensor

from . import synthetic

EVERY = np.arange(1 << 16, dtype=np.uint16).reshape(2, 256, 128)


def near_borders() -> NDArray[np.float32]:
    """Every finite half float, the ties between neighbours, and what lies just beside those ties."""
    halves = EVERY.view(np.float16).astype(np.float32).ravel()
    halves = np.unique(halves[np.isfinite(halves)])
    ties = (halves[1:] + halves[:-1]) / np.float32(2)
    found = np.concatenate([halves, ties, np.nextafter(ties, np.float32(9e9)), np.nextafter(ties, np.float32(-9e9))])
    return np.resize(found.astype(np.float32), (2, 1024, 128))


def test_half_floats_load_exactly() -> None:
    finite = np.where(np.isfinite(EVERY.view(np.float16)), EVERY, 0)
    values = np.empty((2, 200, 128), np.float32)
    assert load_float16(finite, 56, values.view(np.uint32), values)
    np.testing.assert_array_equal(values, finite.view(np.float16)[:, 56:].astype(np.float32))
    assert not load_float16(EVERY, 0, np.empty((2, 256, 128), np.uint32), np.empty((2, 256, 128), np.float32))


def test_half_floats_round_to_nearest_even_and_say_where_they_overflow() -> None:
    values = near_borders()
    target = np.zeros((2, 1030, 128), np.uint16)
    assert store_float16(values, target, 6)
    np.testing.assert_array_equal(target[:, 6:], values.astype(np.float16).view(np.uint16))
    assert not target[:, :6].any()
    for wrong in (65520.0, np.inf, np.nan):
        values[1, 3, 5] = wrong
        assert not store_float16(values, target, 0)


def test_bfloat16_both_ways() -> None:
    values = near_borders() * np.float32(1 + 2**-9)
    target = np.empty(values.shape, np.uint16)
    store_bfloat16(values.view(np.uint32), target, 0)
    tensor = from_float32(values, "BF16")
    np.testing.assert_array_equal(target, tensor.data)
    back = np.empty_like(values)
    assert load_bfloat16(target, 0, back.view(np.uint32))
    np.testing.assert_array_equal(back, to_float32(Tensor(dtype="BF16", data=target)))
    target[1, 2, 3] = 0x7F80
    assert not load_bfloat16(target, 0, back.view(np.uint32))


@pytest.mark.parametrize("style", ["half", "interleaved"])
def test_keys_turn_as_the_plain_formula_says(style: str) -> None:
    from codeckit import kv

    rotary = kv.Rotary.from_theta(10_000.0, 12, style)  # type: ignore[arg-type]
    keys = synthetic.arrays()[0][0]
    positions = np.arange(300) * 3
    turned = keys.copy()
    Turns.to_positions(rotary, positions).apply(turned)
    np.testing.assert_allclose(turned, rotate(keys, rotary, positions), atol=1e-6)
    Turns.from_positions(rotary, positions).apply(turned)
    np.testing.assert_allclose(turned, unrotate(rotate(keys, rotary, positions), rotary, positions), atol=1e-5)
