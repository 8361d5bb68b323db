"""Exact arithmetic: the same integers by every path, and bounds that are checked."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeckit.entropy import RangeDecoder, RangeEncoder
from codeckit.entropy.exact.fixed_point import FRACTION_BITS, exp_of_minus, gaussian_mass
from codeckit.entropy.exact.integer_gru import integer_gru_cell
from codeckit.entropy.exact.integer_linear import integer_conv2d, integer_linear, rescale
from codeckit.entropy.exact.lookup_tables import exp2_table, gaussian_cdf_table, sigmoid_table, tanh_table
from codeckit.entropy.exact.normalisation import normalise_scores, scores_of_logits
from codeckit.entropy.numeric_profile import seeded_integers
from codeckit.formats.errors import InvalidParameter


def _integers(seed: int, *shape: int, limit: int = 127) -> torch.Tensor:
    return torch.from_numpy(seeded_integers(seed, shape, -limit, limit))


def _python_product(inputs: torch.Tensor, weight: torch.Tensor) -> list[list[int]]:
    rows, columns = inputs.tolist(), weight.tolist()
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in rows]


@pytest.mark.parametrize("accumulation", ["int8", "float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_arithmetic_gives_the_integers_of_plain_python(accumulation, threads):
    weight, inputs = _integers(1, 20, 300), _integers(2, 9, 300)
    layer = integer_linear(weight, input_limit=127, accumulation=accumulation)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert layer(inputs).tolist() == _python_product(inputs, weight)
    finally:
        torch.set_num_threads(before)


def test_summation_order_does_not_matter():
    weight, inputs = _integers(1, 20, 300), _integers(2, 9, 300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    expected = integer_linear(weight, input_limit=127)(inputs)
    for accumulation in ("int8", "float32", "float64"):
        layer = integer_linear(weight[:, order], input_limit=127, accumulation=accumulation)
        assert torch.equal(layer(inputs[:, order]), expected)


def test_the_arithmetic_follows_the_bound():
    ones = torch.ones(1, 100, dtype=torch.int64)
    assert integer_linear(ones, input_limit=127).accumulation == "int8"
    assert integer_linear(ones, input_limit=1000).accumulation == "float32"
    assert integer_linear(ones, input_limit=(1 << 24) // 100).accumulation == "float32"
    assert integer_linear(ones, input_limit=(1 << 24) // 100 + 1).accumulation == "float64"
    with pytest.raises(InvalidParameter, match="not exact"):
        integer_linear(ones, input_limit=(1 << 53) // 100 + 1)
    with pytest.raises(InvalidParameter, match="not exact"):
        integer_linear(ones, input_limit=1 << 20, accumulation="float32")


def test_sums_right_below_the_bounds_are_exact():
    for limit, accumulation in ((1 << 24, "float32"), (1 << 53, "float64")):
        weight = torch.tensor([[1, 1, 1]])
        layer = integer_linear(weight, input_limit=(limit - 1) // 3, accumulation=accumulation)
        value = (limit - 1) // 3
        inputs = torch.tensor([[value, value, value], [value, -value, value - 1]])
        assert layer(inputs).tolist() == [[3 * value], [value - 1]]


def test_inputs_beyond_the_declared_range_are_refused():
    layer = integer_linear(torch.ones(1, 2, dtype=torch.int64), input_limit=10)
    for inputs in (torch.tensor([[11, 0]]), torch.tensor([[0, -11]]), torch.tensor([[0.5, 1.0]])):
        with pytest.raises(InvalidParameter):
            layer(inputs)


def test_reduced_precision_settings_change_nothing():
    weight, inputs = _integers(1, 64, 128), _integers(2, 64, 128)
    layer = integer_linear(weight, input_limit=127, accumulation="float32")
    expected = _python_product(inputs, weight)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(inputs).tolist() == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1), ((2, 1), (0, 2))])
def test_convolution_equals_a_float64_convolution_of_the_same_integers(stride, padding):
    weight, bias, inputs = _integers(1, 5, 3, 3, 3), _integers(2, 5), _integers(3, 2, 3, 8, 9)
    layer = integer_conv2d(weight, bias, input_limit=127, stride=stride, padding=padding)
    expected = torch.nn.functional.conv2d(inputs.double(), weight.double(), bias.double(), stride, padding)
    assert torch.equal(layer(inputs), expected.long())


def test_rescaling_rounds_halves_up_and_holds_the_limit():
    values = torch.tensor([-6, -5, -2, 2, 5, 6, 4000, -4000])
    assert rescale(values, shift=2, limit=100).tolist() == [-1, -1, 0, 1, 1, 2, 100, -100]


def test_the_integer_gru_follows_the_float_gru():
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(12, 32)
    scale = 1 << 8
    quantised = {name: (p.detach() * scale).round().long() for name, p in cell.named_parameters()}
    exact = integer_gru_cell(
        quantised["weight_ih"], quantised["weight_hh"], quantised["bias_ih"] << 7, quantised["bias_hh"] << 7,
        weight_bits=8,
    )  # fmt: skip
    inputs = _integers(5, 30, 4, 12)
    state, reference = exact.initial_state(4), torch.zeros(4, 32)
    for step in inputs:
        state = exact(step, state)
        reference = cell(step / 128, reference)
    assert (state / 2**15 - reference).abs().max() < 0.03


def test_fixed_point_functions_agree_with_decimal_arithmetic():
    getcontext().prec = 60
    for x in ("0", "0.001", "0.5", "1", "3.25", "20"):
        fixed = int(Decimal(x) * 2**FRACTION_BITS)
        assert abs(Decimal(exp_of_minus(fixed)) / 2**FRACTION_BITS - (-Decimal(x)).exp()) < Decimal("1e-40")
        assert gaussian_mass(fixed) / 2**FRACTION_BITS == pytest.approx(0.5 * math.erf(float(x) / 2**0.5), abs=1e-15)


@pytest.mark.parametrize(
    ("table", "function", "digest"),
    [
        (sigmoid_table(), lambda x: 1 / (1 + math.exp(-x)), "d5e028fc9d3632ff"),
        (tanh_table(), math.tanh, "bd080b71b358db0e"),
        (gaussian_cdf_table(), lambda x: 0.5 * math.erfc(-x / 2**0.5), "9a836d3d5575c27c"),
        (exp2_table(), lambda x: 2.0**x, "2c0d61ab41843e2b"),
    ],
    ids=["sigmoid", "tanh", "gaussian_cdf", "exp2"],
)
def test_lookup_tables_are_the_rounded_functions_and_the_recorded_integers(table, function, digest):
    for i, entry in enumerate(table.entries.tolist()):
        exact = function((i - table.offset) / 2**table.fraction_bits) * 2**table.output_bits
        assert abs(entry - exact) <= 0.5001
    assert table.digest[:16] == digest


def test_lookups_hold_their_ends_in_numpy_and_torch():
    table = sigmoid_table()
    inputs = np.array([[-(10**9), -1, 0, 1, 10**9]])
    assert table(inputs).tolist() == table(torch.from_numpy(inputs)).tolist()
    assert table(inputs)[0, 0] == table.entries[0]
    assert table(inputs)[0, -1] == table.entries[-1]


score_rows = st.lists(st.lists(st.integers(0, 1 << 30), min_size=7, max_size=7), min_size=1, max_size=20)


@settings(deadline=None)
@given(score_rows, st.sampled_from([8, 12, 16, 24]), st.sampled_from([1, 3]))
def test_normalised_scores_sum_exactly_in_numpy_and_torch_alike(rows, bits, floor):
    scores = np.array(rows)
    frequencies = normalise_scores(scores, bits=bits, floor=floor)
    assert (frequencies.sum(-1) == 1 << bits).all()
    assert int(frequencies.min()) >= floor
    assert torch.equal(
        normalise_scores(torch.from_numpy(scores), bits=bits, floor=floor), torch.from_numpy(frequencies)
    )


def test_equal_scores_give_the_rest_to_the_first():
    scores = np.array([[5, 5, 5], [0, 0, 0]])
    expected = [[86, 85, 85]] * 2
    assert normalise_scores(scores, bits=8).tolist() == expected
    assert normalise_scores(torch.from_numpy(scores), bits=8).tolist() == expected


@pytest.mark.parametrize(
    ("scores", "bits", "floor"),
    [
        (np.array([-1, 1]), 8, 1),
        (np.array([0.5, 1]), 8, 1),
        (np.array([1 << 54, 1]), 8, 1),
        (np.ones(300, np.int64), 8, 1),
        (np.ones(3, np.int64), 8, 100),
        (np.ones(3, np.int64), 25, 1),
    ],
)
def test_scores_that_cannot_be_normalised_are_refused(scores, bits, floor):
    for given_scores in (scores, torch.from_numpy(scores)):
        with pytest.raises(InvalidParameter):
            normalise_scores(given_scores, bits=bits, floor=floor)


def test_integer_softmax_is_close_to_the_real_one_and_codes_exactly():
    logits = seeded_integers(9, (50, 33), -2000, 2000)
    frequencies = normalise_scores(scores_of_logits(logits), bits=24)
    real = np.exp2((logits - logits.max(-1, keepdims=True)) / 256)
    real /= real.sum(-1, keepdims=True)
    assert np.abs(frequencies / 2**24 - real).max() < 1e-5
    assert torch.equal(scores_of_logits(torch.from_numpy(logits)), torch.from_numpy(scores_of_logits(logits)))
    symbols = seeded_integers(10, (50,), 0, 32)
    encoder = RangeEncoder()
    encoder.encode_rows(symbols, frequencies)
    assert (RangeDecoder(encoder.finish()).decode_rows(frequencies) == symbols).all()


def test_weights_whose_sums_would_wrap_are_refused():
    for weight in ([[1 << 62, 1 << 62]], [[-(1 << 63), -(1 << 63)]], [[1 << 61] * 4]):
        with pytest.raises(InvalidParameter):
            integer_linear(torch.tensor(weight), input_limit=1)
