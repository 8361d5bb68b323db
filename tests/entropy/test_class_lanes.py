"""Lanes with a class for every symbol: the words of the reference coder, and nothing else accepted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeckit.entropy import FrequencyTable
from codeckit.entropy.class_lanes import ClassLaneDecoder, ClassLaneEncoder
from codeckit.entropy.escapes import pack_escapes, unpack_escapes
from codeckit.entropy.lane_block import LaneClasses
from codeckit.entropy.lanes_constriction import prepare_encoder
from codeckit.entropy.native_escapes import unpack_escapes as unpack_natively
from codeckit.formats.errors import CorruptFile, InvalidParameter

RNG = np.random.default_rng(5)
TABLES = tuple(
    FrequencyTable.from_counts(
        np.append(np.round(1e6 * 0.7 ** (np.abs(np.arange(-reach, reach + 1)) * 3 / (reach + 1))), 50).astype(np.int64),
        minimum=-reach,
        escape=True,
        bits=12,
    )
    for reach in (0, 1, 5, 60, 120)
)


def draw(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Classes and slots of lanes of ``counts`` symbols, escapes among them."""
    classes = RNG.integers(0, len(TABLES), sum(counts)).astype(np.uint16)
    slots = np.empty(classes.size, np.int64)
    for number, table in enumerate(TABLES):
        own = classes == number
        slots[own] = RNG.choice(table.slots, own.sum(), p=table.frequencies / (1 << 24))
    return classes, slots


@pytest.mark.parametrize("counts", [[], [0], [1], [7, 0, 3], [500] * 4, [900, 20, 4000, 1, 4001], [30_000] * 9])
@pytest.mark.parametrize("threads", [1, 2])
def test_words_are_those_of_the_reference_and_decode(counts: list[int], threads: int) -> None:
    classes, slots = draw(counts)
    sizes_of = np.array(counts, np.int64)
    encoder = ClassLaneEncoder(TABLES)
    words, sizes = encoder.encode((classes * encoder.stride + slots).astype(np.uint16), sizes_of)
    own = LaneClasses(numbers=classes, offsets=np.cumsum(sizes_of) - sizes_of, group_size=1)
    expected, expected_sizes = prepare_encoder(TABLES)(slots.astype(np.int32), sizes_of, own)
    np.testing.assert_array_equal(sizes, expected_sizes)
    np.testing.assert_array_equal(words, expected)

    decoder = ClassLaneDecoder(TABLES)
    codes = np.empty(classes.size, np.uint8)
    decoder.decode(words, sizes, sizes_of, classes, codes, threads=threads)
    minima = np.array([table.minimum for table in TABLES])
    last = np.array([table.slots - 1 for table in TABLES])
    symbols = np.where(slots == last[classes], decoder.marker, minima[classes] + slots)
    np.testing.assert_array_equal(codes, (symbols & 255).astype(np.uint8))


def test_damage_is_noticed() -> None:
    counts = np.array([2000, 3000, 1500, 10, 800], np.int64)
    classes, slots = draw(counts.tolist())
    encoder = ClassLaneEncoder(TABLES)
    words, sizes = encoder.encode((classes * encoder.stride + slots).astype(np.uint16), counts)
    decoder = ClassLaneDecoder(TABLES)
    codes = np.empty(classes.size, np.uint8)
    for lane in range(counts.size):
        shorter = sizes.copy()
        shorter[lane] -= 1
        with pytest.raises(CorruptFile, match=f"lane {lane} "):
            decoder.decode(np.delete(words, int(sizes[:lane].sum())), shorter, counts, classes, codes)
    with pytest.raises(CorruptFile, match="promised"):
        decoder.decode(words[:-1], sizes, counts, classes, codes)


def test_tables_that_do_not_fit_are_refused() -> None:
    plain = FrequencyTable.from_counts(np.array([3, 1]), minimum=0, escape=False, bits=12)
    fine = FrequencyTable.from_counts(np.array([30_001, 1, 77]), minimum=0, escape=True)
    wide = FrequencyTable.from_counts(np.ones(200, np.int64), minimum=0, escape=True, bits=12)
    for table, word in ((plain, "no escape"), (fine, "12 bits"), (wide, "beyond")):
        with pytest.raises(InvalidParameter, match=word):
            ClassLaneDecoder([table])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, (1 << 61) - 1) | st.integers(0, 40), max_size=50), st.data())
def test_escapes_read_natively_as_by_the_reference(values: list[int], data: st.DataObject) -> None:
    codes = np.array(values, np.int64)
    section = pack_escapes(codes)
    np.testing.assert_array_equal(unpack_escapes(section, codes.size, "x"), codes)
    np.testing.assert_array_equal(unpack_natively(section, codes.size, "x"), codes)
    damaged = bytearray(section)
    if damaged:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found = []
    for read in (unpack_escapes, unpack_natively):
        try:
            found.append(read(bytes(damaged), codes.size, "x").tolist())
        except CorruptFile:
            found.append("corrupt")
    assert found[0] == found[1]
