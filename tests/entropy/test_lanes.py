"""Lane blocks: the backends agree with each other and the oracle, and hostile blocks are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from codeckit.entropy import FrequencyTable, decode_lane_list, decode_lanes, encode_lanes
from codeckit.entropy.lane_block import LaneBlock
from codeckit.entropy.oracle import ans_decode, ans_encode
from codeckit.formats.errors import (
    ChecksumMismatch,
    CodecError,
    CorruptFile,
    InvalidParameter,
    LimitExceeded,
    UnsupportedVersion,
)

from .lane_cases import LaneCase, draw, even, lane_cases, laplace
from .page_reader import digest, read_block, table

CASES = lane_cases()
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def _lanes(values: object) -> list[np.ndarray]:
    return [np.asarray(lane) for lane in values]


def _with_checksum(body: bytes | bytearray) -> bytes:
    return bytes(body) + xxh3_64_intdigest(bytes(body)).to_bytes(8, "little")


@by_name
def test_both_encoders_write_the_same_bytes(case: LaneCase):
    reference = encode_lanes(case.values, case.tables, backend="constriction", **case.options)
    assert encode_lanes(case.values, case.tables, backend="native", **case.options) == reference
    assert encode_lanes(case.values, case.tables, backend="native", threads=2, **case.options) == reference


@by_name
@pytest.mark.parametrize("backend", ["constriction", "native"])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_value_comes_back(case: LaneCase, backend, threads):
    data = encode_lanes(case.values, case.tables, **case.options)
    decoded = decode_lane_list(data, backend=backend, threads=threads)
    expected = _lanes(case.values)
    assert len(decoded) == len(expected)
    for found, lane in zip(decoded, expected, strict=True):
        assert found.tolist() == lane.tolist()


@by_name
def test_the_oracle_reads_and_writes_the_same_words(case: LaneCase):
    block = LaneBlock.from_bytes(encode_lanes(case.values, case.tables, **case.options))
    cumulatives = [table.cumulative.tolist() for table in block.tables]
    for lane, values in enumerate(_lanes(case.values)[:4]):
        count = min(len(values), 300)
        if count < len(values):
            continue
        numbers = block.classes.at(np.full(count, lane), np.arange(count)).tolist()
        tables = [block.tables[n] for n in numbers]
        slots = [
            int(v) - t.minimum if t.minimum <= v <= t.maximum else t.slots - 1
            for v, t in zip(values.tolist(), tables, strict=True)
        ]
        words = block.words[block.word_offsets[lane] : block.word_offsets[lane + 1]].tolist()
        rows = [cumulatives[n] for n in numbers]
        assert ans_encode(slots, rows) == words
        assert ans_decode(words, rows) == slots


@by_name
def test_a_reader_written_from_the_documentation_reads_the_same_values(case: LaneCase):
    values = [np.asarray(lane)[:60].tolist() for lane in case.values]
    assert read_block(encode_lanes(values, case.tables, **case.options)) == values
    for own in case.tables:
        found, end = table(own.to_bytes(), 0)
        assert (digest(found), end) == (own.digest, len(own.to_bytes()))


@pytest.mark.parametrize("seed", range(6))
def test_random_tables_and_lengths_round_trip_on_both_backends(seed):
    rng = np.random.default_rng(seed)
    tables = []
    for _ in range(5):
        counts = rng.integers(0, 1 << int(rng.integers(1, 30)), int(rng.integers(1, 700)))
        bits = 12 if seed % 2 else 24
        tables.append(FrequencyTable.from_counts(counts, bits=bits, minimum=int(rng.integers(-300, 300))))
    lengths = rng.integers(0, 400, 23)
    classes = rng.integers(0, 5, (23, 400))
    values = [
        np.array([draw(rng, tables[c], ()) for c in classes[lane, np.arange(n) // 7]], np.int64)
        for lane, n in enumerate(lengths)
    ]
    data = encode_lanes(values, tables, classes=classes, group_size=7, backend="native")
    assert data == encode_lanes(values, tables, classes=classes, group_size=7, backend="constriction")
    for backend in ("native", "constriction"):
        for found, lane in zip(decode_lane_list(data, backend=backend), values, strict=True):
            assert found.tolist() == lane.tolist()


@pytest.mark.parametrize("backend", ["constriction", "native"])
def test_any_lanes_can_be_had_alone_and_in_any_order(backend):
    case = next(case for case in CASES if case.name == "escapes-24")
    data = encode_lanes(case.values, case.tables)
    for choice in ([3], [6, 2, 2, 0], slice(1, 5), slice(None, None, -1), []):
        expected = case.values[choice]
        found = decode_lanes(data, lanes=choice, backend=backend)
        assert found.tolist() == expected.tolist()


def test_codes_come_in_the_smallest_type_that_holds_the_tables():
    for low, slots, dtype in [(0, 256, np.uint8), (-128, 256, np.int8), (-1, 200, np.int16), (5, 300, np.uint16)]:
        table = even(slots, minimum=low)
        found = decode_lanes(encode_lanes(np.full((3, 4), low), [table]))
        assert found.dtype == dtype
        assert (found == low).all()


def test_tables_can_stay_outside_the_block():
    table = laplace(256, 6, 12)
    values = draw(np.random.default_rng(0), table, (4, 50))
    data = encode_lanes(values, [table], tables_inside=False)
    assert (decode_lanes(data, tables=[table]) == values).all()
    with pytest.raises(InvalidParameter, match="pass tables"):
        decode_lanes(data)
    with pytest.raises(InvalidParameter, match="not the"):
        decode_lanes(data, tables=[laplace(256, 7, 12)])


@pytest.mark.parametrize("bits", [12, 24])
def test_a_lane_costs_less_than_one_percent_more_than_its_ideal_code_length(bits):
    table = laplace(256, 6, bits)
    values = draw(np.random.default_rng(2), table, (64, 4096))
    size = len(encode_lanes(values, [table]))
    assert size <= 1.01 * table.code_length_bits(values) / 8


@pytest.mark.parametrize(
    ("values", "tables", "options"),
    [
        (np.zeros((2, 2)), [even(3)], {}),
        (np.zeros(4, np.int64), [even(3)], {}),
        (np.full((2, 2), 3), [even(3)], {}),
        (np.full((2, 2), -1), [even(3), even(3)], {"classes": [0, 1]}),
        (np.zeros((2, 2), np.int64), [even(3), even(3)], {}),
        (np.zeros((2, 2), np.int64), [even(3)], {"classes": [0, 1]}),
        (np.zeros((2, 2), np.int64), [even(3)], {"classes": [0]}),
        (np.zeros((2, 9), np.int64), [even(3)], {"classes": [[0], [0]], "group_size": 4}),
        (np.zeros((2, 9), np.int64), [even(3)], {"classes": [[0], [0]]}),
        (np.zeros((2, 2), np.int64), [], {}),
        (np.zeros((2, 2), np.int64), [even(3)], {"backend": "gpu"}),
        (np.zeros((2, 2), np.int64), [even(3)], {"threads": 0}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(values, tables, options):
    with pytest.raises(InvalidParameter):
        encode_lanes(values, tables, **options)


def test_lanes_of_different_lengths_need_the_list():
    data = encode_lanes([[1], [1, 2]], [even(3)])
    with pytest.raises(InvalidParameter, match="decode_lane_list"):
        decode_lanes(data)


def test_lanes_that_do_not_exist_are_refused():
    data = encode_lanes(np.zeros((3, 3), np.int64), [even(3)])
    for lanes in ([3], [-1], [0.5]):
        with pytest.raises(InvalidParameter):
            decode_lanes(data, lanes=lanes)


def _small_block() -> tuple[bytes, np.ndarray]:
    table = laplace(30, 3, 12, minimum=-15, escape=True)
    values = draw(np.random.default_rng(8), table, (5, 40))
    values[1, 3] = 999
    return encode_lanes(values, [table]), values


def test_every_truncation_and_bit_flip_is_caught_by_the_checksum():
    data, _ = _small_block()
    for size in range(len(data)):
        with pytest.raises(CorruptFile):
            decode_lanes(data[:size])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CorruptFile, UnsupportedVersion)):
            decode_lanes(bytes(flipped))


@pytest.mark.parametrize("backend", ["constriction", "native"])
def test_damage_under_a_forged_checksum_raises_codec_errors_only(backend):
    data, values = _small_block()
    body = data[:-8]
    rng = np.random.default_rng(0)
    accepted = 0
    for bit in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        if rng.integers(4) == 0:
            del flipped[int(rng.integers(len(flipped))) :]
        try:
            found = decode_lane_list(_with_checksum(flipped), backend=backend, max_symbols=1 << 16)
        except CodecError:
            continue
        accepted += any(a.tolist() == b.tolist() for a, b in zip(found, values, strict=False))
    # Wrong symbols in one lane can pass only where an attacker also forged the checksum.
    assert accepted < 2 * len(body)


WORD_CHANGES = {
    "last word missing": lambda words: words[:-1],
    "first word missing": lambda words: words[1:],
    "half missing": lambda words: words[: words.size // 2],
    "a word appended": lambda words: np.append(words, 5),
    "a zero word appended": lambda words: np.append(words, 0),
    "a word put below": lambda words: np.insert(words, 0, 1),
    "twice": lambda words: np.concatenate([words, words]),
    "a bit flipped": lambda words: words ^ (np.arange(words.size) == words.size // 2),
}


@pytest.mark.parametrize("backend", ["constriction", "native"])
@pytest.mark.parametrize("bits", [12, 24])
def test_under_a_forged_checksum_only_words_an_encoder_writes_pass_and_others_name_the_lane(backend, bits):
    table = laplace(256, 6, bits)
    refused = passed = 0
    for seed in range(5):
        values = draw(np.random.default_rng(seed), table, (6, 100))
        block = LaneBlock.from_bytes(encode_lanes(values, [table]))
        parts = [block.words[block.word_offsets[i] : block.word_offsets[i + 1]] for i in range(6)]
        for change in WORD_CHANGES.values():
            damaged = [change(part) if lane == 4 else part for lane, part in enumerate(parts)]
            fields = {name: getattr(block, name) for name in LaneBlock.__dataclass_fields__}
            fields["words"] = np.concatenate(damaged).astype(np.uint32)
            fields["word_offsets"] = np.cumsum([0, *map(len, damaged)])
            forged = LaneBlock(**fields).to_bytes()
            try:
                found = decode_lanes(forged, backend=backend)
            except CorruptFile as error:
                refused += "lane 4" in str(error)
                continue
            passed += 1
            # ANS has no redundancy: what passes is the one encoding of other symbols.
            assert encode_lanes(found, [table]) == forged
            assert (np.delete(found, 4, 0) == np.delete(values, 4, 0)).all()
    assert refused >= 20
    assert refused + passed == 5 * len(WORD_CHANGES)


def _forged(**changes: object) -> bytes:
    data, _ = _small_block()
    block = LaneBlock.from_bytes(data)
    fields = {name: getattr(block, name) for name in LaneBlock.__dataclass_fields__}
    return LaneBlock(**{**fields, **changes}).to_bytes()


def test_a_lane_that_promises_2_to_the_47_symbols_is_named_before_allocation():
    with pytest.raises(CorruptFile, match="lane 2"):
        decode_lanes(_forged(symbol_counts=np.array([40, 40, 1 << 47, 40, 40])))


def test_a_symbol_count_of_2_to_the_60_is_refused():
    body = bytearray([1, 1, 1, 1, 0]) + even(3).to_bytes() + bytes([0x80] * 8 + [0x10, 0])
    with pytest.raises(CorruptFile, match="lane 0"):
        decode_lanes(_with_checksum(body))


def test_more_symbols_than_the_limit_are_refused():
    data, _ = _small_block()
    with pytest.raises(LimitExceeded, match="max_symbols"):
        decode_lanes(data, max_symbols=199)


@pytest.mark.parametrize("field", ["word_offsets", "escape_offsets"])
def test_a_length_that_overruns_names_the_lane(field):
    data, _ = _small_block()
    block = LaneBlock.from_bytes(data)
    offsets = getattr(block, field).copy()
    offsets[3:] += 1 << 40
    with pytest.raises(CorruptFile, match="lane 2"):
        decode_lanes(_forged(**{field: offsets}))


def test_a_table_number_out_of_range_names_the_lane():
    values = np.zeros((3, 4), np.int64)
    block = LaneBlock.from_bytes(encode_lanes(values, [even(3), even(2)], classes=[0, 1, 0]))
    block.classes.numbers[1] = 3
    with pytest.raises(CorruptFile, match="lane 1 uses table 3"):
        decode_lanes(block.to_bytes())


def test_escapes_that_disagree_with_the_symbols_name_the_lane():
    data, _ = _small_block()
    counts = LaneBlock.from_bytes(data).escape_counts.copy()
    counts[1], counts[0] = counts[0], counts[1]
    with pytest.raises(CorruptFile, match="lane 0"):
        decode_lanes(_forged(escape_counts=counts))


def test_a_newer_version_is_refused_as_such():
    data, _ = _small_block()
    with pytest.raises(UnsupportedVersion):
        decode_lanes(_with_checksum(b"\x02" + data[1:-8]))


def test_a_flipped_bit_is_a_checksum_mismatch():
    data, _ = _small_block()
    with pytest.raises(ChecksumMismatch):
        decode_lanes(data[:60] + bytes([data[60] ^ 1]) + data[61:])


@pytest.mark.parametrize("seed", range(3))
def test_random_bodies_raise_codec_errors_only(seed):
    rng = np.random.default_rng(seed)
    head = bytes([1, seed % 4])
    for _ in range(300):
        body = head + rng.integers(0, 256, int(rng.integers(0, 80)), np.uint8).tobytes()
        with pytest.raises(CodecError):
            decode_lane_list(_with_checksum(body), max_symbols=1 << 16)


@pytest.mark.slow
def test_the_native_path_stays_in_bounds():
    """Compiled with bounds checks, over all cases and forged damage: no index error."""
    script = Path(__file__).with_name("bounds_check_run.py")
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "all in bounds" in done.stdout


def test_peak_memory_stays_below_output_plus_twice_the_data_plus_64_mib():
    script = """
import resource, sys
import numpy as np
from codeckit.entropy import FrequencyTable, decode_lanes, encode_lanes
table = FrequencyTable.from_counts(np.ones(200, np.int64), bits=12)
decode_lanes(encode_lanes(np.zeros((8, 64), np.uint8), [table]))
rng = np.random.default_rng(0)
data = encode_lanes(rng.integers(0, 200, (4096, 8192), np.uint8), [table])
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
def peak(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) << 10
before = peak("VmRSS")
out = decode_lanes(data)
print(peak("VmHWM") - before - out.nbytes - 2 * len(data))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 64 << 20
