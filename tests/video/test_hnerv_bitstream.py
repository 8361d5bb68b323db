"""Weights and embeddings survive as exact integers, whatever machine or thread count reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from codeckit.codecs.video.bitstream import pack_tensors, unpack_tensors
from codeckit.codecs.video.quantiser import WHOLE, QuantisedTensor, dequantise, quantise
from codeckit.codecs.video.timing import Timing, pack_differences, unpack_differences
from codeckit.formats.errors import CorruptFile

SHAPES = [(57, 68, 1, 1), (100,), (12, 12, 5, 5), (3,)]


def random_tensors(seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 0.1, shape).astype(np.float32) for shape in SHAPES]


def oracle(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The published procedure, element by element, in the whole-tensor and every allowed axis variant."""
    best: tuple[float, NDArray[np.float32]] | None = None
    for axis in [None, *range(values.ndim)]:
        low, high = (
            (values.min(), values.max())
            if axis is None
            else (values.min(axis, keepdims=True), values.max(axis, keepdims=True))
        )
        if axis is not None and low.size / values.size >= 0.02:
            continue
        scale = (high - low) / np.float32(2**bits - 1)
        if axis is not None:
            low, scale = low.astype(np.float16), scale.astype(np.float16)
        low, scale = (np.broadcast_to(value, values.shape).astype(np.float32) for value in (low, scale))
        result = np.empty_like(values)
        for index in np.ndindex(values.shape):
            symbol = np.clip(np.rint((values[index] - low[index]) / scale[index]), 0, 2**bits - 1)
            result[index] = low[index] + scale[index] * np.float32(symbol)
        error = float(np.abs(values - result).mean(dtype=np.float64))
        if best is None or error < best[0]:
            best = error, result
    assert best is not None
    return best[1]


@pytest.mark.parametrize("bits", [6, 8])
def test_the_quantiser_is_the_published_one(bits: int) -> None:
    for values in random_tensors():
        assert np.array_equal(dequantise(quantise(values, bits)), oracle(values, bits))


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=1, max_dims=4, max_side=60),
        elements=st.floats(-1000, 1000, width=32),
    ),
    st.sampled_from([6, 8]),
)
def test_no_value_moves_by_more_than_half_a_step(values: NDArray[np.float32], bits: int) -> None:
    tensor = quantise(values, bits)
    if tensor.axis == WHOLE:
        step = (values.max() - values.min()) / (2**bits - 1)
        assert np.abs(dequantise(tensor) - values).max() <= 0.51 * step + 1e-4
    (back,) = unpack_tensors(pack_tensors([tensor]), [values.shape], bits=bits, what="test")
    assert np.array_equal(dequantise(back), dequantise(tensor))


def test_constant_tensors_cost_next_to_nothing() -> None:
    tensor = quantise(np.full((40, 30, 3, 3), 0.25, np.float32), 8)
    assert np.array_equal(dequantise(tensor), np.full((40, 30, 3, 3), 0.25, np.float32))
    assert len(pack_tensors([tensor])) < 700


def test_packed_tensors_come_back_exactly_on_any_number_of_threads() -> None:
    tensors = [quantise(values, 8) for values in random_tensors()]
    payload = pack_tensors(tensors)

    def symbols(_: int) -> bytes:
        back = unpack_tensors(payload, SHAPES, bits=8, what="test")
        return b"".join(tensor.symbols.tobytes() for tensor in back)

    expected = b"".join(tensor.symbols.tobytes() for tensor in tensors)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            with ThreadPoolExecutor(count) as pool:
                assert set(pool.map(symbols, range(count))) == {expected}
    finally:
        torch.set_num_threads(threads)


def test_the_stream_is_close_to_the_entropy_of_its_symbols() -> None:
    tensors = [quantise(np.random.default_rng(1).laplace(0, 0.1, (200, 200)).astype(np.float32), 8)]
    counts = np.bincount(tensors[0].symbols.ravel(), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    entropy_bytes = -(shares * np.log2(shares)).sum() * counts.sum() / 8
    bounds = 4 + 4 if tensors[0].axis == WHOLE else 2 * 2 * 200
    assert len(pack_tensors(tensors)) <= 1.01 * entropy_bytes + bounds + 400


def test_every_truncation_and_foreign_shape_is_refused() -> None:
    payload = pack_tensors([quantise(values, 8) for values in random_tensors()])
    for length in [*range(0, 700, 7), len(payload) - 4, len(payload) - 1]:
        with pytest.raises(CorruptFile):
            unpack_tensors(payload[:length], SHAPES, bits=8, what="test")
    with pytest.raises(CorruptFile):
        unpack_tensors(payload + b"\0", SHAPES, bits=8, what="test")
    with pytest.raises(CorruptFile):
        unpack_tensors(payload, [SHAPES[0], (60,), *SHAPES[2:]], bits=8, what="test")


def test_symbols_beyond_the_bits_and_bounds_that_are_no_numbers_are_refused() -> None:
    wide = QuantisedTensor(
        symbols=np.arange(100, dtype=np.uint8), axis=WHOLE, minimum=np.float32(0), scale=np.float32(1)
    )
    with pytest.raises(CorruptFile, match="6 bits"):
        unpack_tensors(pack_tensors([wide]), [(100,)], bits=6, what="test")
    broken = QuantisedTensor(
        symbols=np.arange(10, dtype=np.uint8), axis=WHOLE, minimum=np.float32("nan"), scale=np.float32(1)
    )
    with pytest.raises(CorruptFile, match="finite"):
        unpack_tensors(pack_tensors([broken]), [(10,)], bits=8, what="test")


@given(st.integers(-1000, 1000), st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.integers(1, 1000))
def test_timestamps_survive(start: int, steps: list[int], last: int) -> None:
    timestamps = tuple(start + sum(steps[:count]) for count in range(len(steps) + 1))
    end = timestamps[-1] + last
    timing = Timing.from_json(Timing.of(timestamps, end).as_json())
    if timing.step:
        assert timing.regular(len(timestamps)) == timestamps
    else:
        assert unpack_differences(pack_differences(timestamps), timing, len(timestamps)) == timestamps


def test_timings_that_make_no_sense_are_refused() -> None:
    for value in ([0, 0, 1], [5, 4, 1], [0, 10, -1], [0, 10], [0, 10, True], "no", [0, 1 << 60, 1]):
        with pytest.raises(CorruptFile):
            Timing.from_json(value)
    with pytest.raises(CorruptFile):
        Timing.from_json([0, 10, 5]).regular(3)
    timing = Timing.from_json([0, 100, 0])
    for payload in (b"\x05", b"\x05\x05\x05", b"\x05\x00", b"\x05\x7f"):
        with pytest.raises(CorruptFile):
            unpack_differences(payload, timing, 3)
