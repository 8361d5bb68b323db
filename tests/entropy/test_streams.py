"""Streams: exact round trips, the oracle's bytes, escapes, and hostile data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeckit.entropy import (
    AnsDecoder,
    AnsEncoder,
    FrequencyTable,
    RangeDecoder,
    RangeEncoder,
    decode_symbols,
    encode_symbols,
    read_symbols,
    scale_tables,
)
from codeckit.entropy.frequency_table import TOTAL
from codeckit.entropy.oracle import ans_decode, ans_encode, range_decode, range_encode
from codeckit.entropy.stream_format import read_stream
from codeckit.formats.errors import CorruptFile, InvalidParameter

CODERS = [(AnsEncoder, AnsDecoder), (RangeEncoder, RangeDecoder)]
ORACLES = {AnsEncoder: (ans_encode, ans_decode), RangeEncoder: (range_encode, range_decode)}


def _even(slots: int) -> FrequencyTable:
    return FrequencyTable.from_counts(np.ones(slots, np.int64))


def _spike(slots: int, where: int) -> FrequencyTable:
    """All but the least possible mass on one slot."""
    frequencies = np.ones(slots, np.int64)
    frequencies[where] += TOTAL - slots
    return FrequencyTable(frequencies)


ADVERSARIAL = [
    _even(1),
    _even(2),
    _even(3),
    _even(256),
    _even(4096),
    _spike(2, 0),
    _spike(2, 1),
    _spike(4096, 0),
    _spike(4096, 4095),
    _spike(4096, 2048),
]


@pytest.mark.parametrize(("encoder_type", "decoder_type"), CODERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_words_equal_the_oracles_and_decode(encoder_type, decoder_type, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    runs = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=5))
    encoder, slots, cumulatives = encoder_type(), [], []
    batches = []
    for number, count in runs:
        table = ADVERSARIAL[number]
        values = rng.integers(0, table.slots, count)
        if rng.integers(2):
            values[:] = np.argmax(table.frequencies)
        encoder.encode(values, table)
        batches.append((table, values))
        slots += values.tolist()
        cumulatives += [table.cumulative.tolist()] * count
    stream = encoder.finish()
    words, _, _ = read_stream(stream, 0)
    oracle_encode, oracle_decode = ORACLES[encoder_type]
    assert words.tolist() == oracle_encode(slots, cumulatives)
    assert oracle_decode(words.tolist(), cumulatives) == slots
    decoder = decoder_type(stream)
    for table, values in batches:
        assert (decoder.decode(table, len(values)) == values).all()
    decoder.finish()


@pytest.mark.parametrize(("encoder_type", "decoder_type"), CODERS)
def test_indexed_tables_and_escapes_round_trip_in_any_shape(encoder_type, decoder_type):
    rng = np.random.default_rng(3)
    tables = scale_tables("laplace")
    index = rng.integers(0, len(tables), (5, 7, 11))
    values = np.int64(rng.laplace(size=index.shape) * 2.0 ** (index / 6 - 3))
    values[0, 0, :4] = [10**6, -(10**6), 2**60, -(2**60)]
    encoder = encoder_type()
    encoder.encode_indexed(values, tables, index)
    encoder.encode([5, -9000], tables[30])
    decoder = decoder_type(encoder.finish())
    assert (decoder.decode_indexed(tables, index) == values).all()
    assert decoder.decode(tables[30], 2).tolist() == [5, -9000]
    decoder.finish()


@pytest.mark.parametrize(("encoder_type", "decoder_type"), CODERS)
@pytest.mark.parametrize("bits", [8, 12, 16, 24])
def test_rows_round_trip(encoder_type, decoder_type, bits):
    rng = np.random.default_rng(bits)
    rows = 1 + rng.multinomial((1 << bits) - 17, rng.dirichlet(np.ones(17), 300))
    slots = rng.integers(0, 17, 300)
    encoder = encoder_type()
    encoder.encode_rows(slots, rows)
    stream = encoder.finish()
    decoder = decoder_type(stream)
    assert (decoder.decode_rows(rows) == slots).all()
    decoder.finish()
    scaled = np.cumsum(np.pad(rows << (24 - bits), ((0, 0), (1, 0))), axis=1)
    oracle_encode, _ = ORACLES[encoder_type]
    assert read_stream(stream, 0)[0].tolist() == oracle_encode(slots.tolist(), scaled.tolist())


def test_rows_split_into_steps_decode_in_order(monkeypatch):
    monkeypatch.setattr("codeckit.entropy.coder_models._ROWS_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    rows = 1 + rng.multinomial(4096 - 16, rng.dirichlet(np.ones(16), 50))
    slots = rng.integers(0, 16, 50)
    for encoder_type, decoder_type in CODERS:
        encoder = encoder_type()
        encoder.encode_rows(slots, rows)
        assert (decoder_type(encoder.finish()).decode_rows(rows) == slots).all()


def test_values_outside_a_table_without_escape_are_refused():
    with pytest.raises(InvalidParameter, match="no escape slot"):
        encode_symbols([1, 2, 3], [_even(3)])


@pytest.mark.parametrize("values", [[0.5], ["a"], np.array([1 << 63], np.uint64)])
def test_values_that_are_not_small_integers_are_refused(values):
    with pytest.raises(InvalidParameter):
        encode_symbols(values, [_even(3)])


def test_symbol_streams_are_self_delimiting():
    tables = scale_tables("gaussian")[:20]
    index = np.arange(20)
    first = encode_symbols(index - 10, tables, index)
    second = encode_symbols([3, 300], [tables[9]])
    joined = first + second
    values, position = read_symbols(joined, 0, tables, index)
    assert (values == index - 10).all()
    assert position == len(first)
    values, position = read_symbols(joined, position, [tables[9]], count=2)
    assert values.tolist() == [3, 300]
    assert position == len(joined)


def test_streams_cost_little_more_than_the_ideal_code_length():
    rng = np.random.default_rng(1)
    table = scale_tables("laplace")[30]
    values = np.int64(rng.laplace(size=20000) * 4)
    ideal_bytes = table.code_length_bits(values) / 8
    for encoder_type, _ in CODERS:
        encoder = encoder_type()
        encoder.encode(values, table)
        assert len(encoder.finish()) <= 1.001 * ideal_bytes + 16


def test_an_empty_stream_takes_two_bytes():
    assert encode_symbols([], [_even(5)]) == b"\0\0"
    assert decode_symbols(b"\0\0", [_even(5)], count=0).size == 0


def test_every_truncation_and_most_bit_flips_of_an_ans_stream_are_refused():
    tables = scale_tables("laplace")
    index = np.arange(60) % 40
    values = np.where(np.arange(60) % 20 == 0, 5000, 0) + np.arange(60) % 3
    data = encode_symbols(values, tables, index)
    for size in range(len(data)):
        with pytest.raises(CorruptFile):
            decode_symbols(data[:size], tables, index)
    accepted = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            decode_symbols(bytes(flipped), tables, index)
            accepted += 1
        except CorruptFile:
            continue
    # Escape payloads carry no redundancy of their own; the words do.
    assert accepted < 60


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes_never_raise_anything_but_corrupt_file(data):
    tables = scale_tables("laplace")[20:24]
    for decoder_type in (AnsDecoder, RangeDecoder):
        try:
            decoder = decoder_type(data)
            assert decoder.decode_indexed(tables, np.arange(200) % 4).shape == (200,)
            assert set(decoder.decode_rows(np.full((50, 2), 2048))) <= {0, 1}
            decoder.finish()
        except CorruptFile:
            continue


@pytest.mark.parametrize("decoder_type", [AnsDecoder, RangeDecoder])
def test_words_left_over_are_refused(decoder_type):
    encoder_type = AnsEncoder if decoder_type is AnsDecoder else RangeEncoder
    encoder = encoder_type()
    encoder.encode(np.arange(256), _even(256))
    decoder = decoder_type(encoder.finish())
    decoder.decode(_even(256), 200)
    with pytest.raises(CorruptFile, match="left over"):
        decoder.finish()


def test_a_promise_of_2_to_the_60_words_or_escapes_is_refused_before_allocation():
    for head in (b"\x80\x80\x80\x80\x80\x80\x80\x80\x10\0", b"\0\x80\x80\x80\x80\x80\x80\x80\x80\x10\0"):
        with pytest.raises(CorruptFile):
            decode_symbols(head, [_even(4)], count=1)
