"""Frequency tables: normalisation, validation and their byte form."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeckit.entropy import FrequencyTable, normalise_counts
from codeckit.entropy.frequency_table import TOTAL
from codeckit.formats.errors import CorruptFile, InvalidParameter

counts_lists = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 1 << 40), st.just(0)), min_size=1, max_size=300)


def _laplace_counts(slots: int, scale: float) -> np.ndarray:
    return np.int64(1e6 * np.exp(-np.abs(np.arange(slots) - slots // 2) / scale))


@given(counts_lists, st.sampled_from([9, 12, 16, 24]))
def test_normalised_counts_sum_exactly_and_keep_every_floor(counts, bits):
    frequencies = normalise_counts(np.array(counts, np.int64), bits=bits)
    assert int(frequencies.sum()) == 1 << bits
    assert int(frequencies.min()) >= 1


@given(counts_lists)
def test_normalised_counts_are_within_one_of_the_exact_share_or_floored(counts):
    frequencies = normalise_counts(np.array(counts, np.int64), bits=24)
    free = [i for i, f in enumerate(frequencies) if f > 1]
    total = sum(counts[i] for i in free)
    if total == 0:
        return
    budget = TOTAL - (len(counts) - len(free))
    for i in free:
        share = Fraction(counts[i] * budget, total)
        # Floored slots that sit at one by their own share shift the budget by at most their number.
        assert abs(frequencies[i] - share) <= 1 + len(counts)


def test_larger_counts_never_get_smaller_frequencies():
    counts = np.sort(np.random.default_rng(0).integers(0, 1000, 500))
    assert (np.diff(normalise_counts(counts, bits=12)) >= 0).all()


def test_counts_beyond_63_bits_are_scaled_down_exactly():
    huge = np.array([1 << 63, 1 << 62, 1 << 62, 1], np.uint64)
    assert normalise_counts(huge).tolist() == [TOTAL // 2 - 1, TOTAL // 4, TOTAL // 4, 1]


def test_counts_of_zero_everywhere_give_an_even_table():
    assert normalise_counts(np.zeros(5, np.int64), bits=12).tolist() == [820, 819, 819, 819, 819]


@pytest.mark.parametrize(
    ("frequencies", "message"),
    [
        ([TOTAL - 1], "sum to"),
        ([TOTAL, 1], "sum to"),
        ([0, TOTAL], "1..2"),
        ([-1, TOTAL + 1], "1..2"),
        ([], "flat array"),
        ([0.5, 0.5], "flat array"),
        ([[TOTAL]], "flat array"),
    ],
)
def test_tables_that_break_a_rule_are_refused(frequencies, message):
    with pytest.raises(InvalidParameter, match=message):
        FrequencyTable(np.array(frequencies))


def test_an_escape_slot_needs_company():
    with pytest.raises(InvalidParameter, match="escape"):
        FrequencyTable([TOTAL], escape=True)


@settings(max_examples=200)
@given(counts_lists, st.sampled_from([9, 12, 24]), st.integers(-(1 << 40), 1 << 40), st.booleans())
def test_bytes_round_trip(counts, bits, minimum, escape):
    counts = counts if len(counts) > 1 else [*counts, 1]
    table = FrequencyTable.from_counts(np.array(counts, np.int64), bits=bits, minimum=minimum, escape=escape)
    back = FrequencyTable.from_bytes(table.to_bytes())
    assert back == table
    assert back.minimum == minimum
    assert back.escape == escape


@pytest.mark.parametrize(
    ("counts", "bits", "most_bytes"),
    [
        (_laplace_counts(256, 6), 12, 45),
        (_laplace_counts(256, 6), 24, 150),
        (np.bincount([3, 500, 501, 4000], minlength=4096), 12, 24),
        (np.ones(256, np.int64), 24, 7),
        (np.ones(1, np.int64), 24, 5),
    ],
)
def test_tables_are_small_when_smooth_or_sparse(counts, bits, most_bytes):
    assert len(FrequencyTable.from_counts(counts, bits=bits).to_bytes()) <= most_bytes


def test_every_truncation_and_bit_flip_gives_a_table_or_a_corrupt_file():
    data = FrequencyTable.from_counts(_laplace_counts(40, 4), bits=12, escape=True).to_bytes()
    for size in range(len(data)):
        with pytest.raises(CorruptFile):
            FrequencyTable.from_bytes(data[:size])
    accepted = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            table = FrequencyTable.from_bytes(bytes(flipped))
        except CorruptFile:
            continue
        assert int(table.frequencies.sum()) == TOTAL
        accepted += 1
    # Only fields that a sum cannot check, such as the minimum, survive.
    assert accepted <= 24


def test_a_table_that_promises_too_many_slots_is_refused_before_allocation():
    with pytest.raises(CorruptFile, match="slots"):
        FrequencyTable.from_bytes(bytes([0, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0]))


@given(st.binary(max_size=60))
def test_random_bytes_never_raise_anything_but_corrupt_file(data):
    try:
        table = FrequencyTable.from_bytes(data)
    except CorruptFile:
        return
    assert int(table.frequencies.sum()) == TOTAL
    assert table.frequencies.min() >= 1


def test_code_length_counts_escape_slots():
    table = FrequencyTable([TOTAL // 2, TOTAL // 4, TOTAL // 4], escape=True)
    assert table.code_length_bits([0, 1, 77]) == 1 + 2 + 2
