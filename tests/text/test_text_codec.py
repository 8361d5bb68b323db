"""The text codec returns the very bytes, never loses to xz by more than its frame, and refuses damage."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codeckit
from codeckit.codecs.protocol import Selection
from codeckit.codecs.run_context import RunContext
from codeckit.formats.errors import CodecError, CorruptFile, InvalidParameter, NumericProfileMismatch
from codeckit.formats.header import Header
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter

PRESETS = ("fast", "balanced", "max")
RANDOM = np.random.default_rng(7)
SENTENCE = b"Line %d of a small book: the %d sheep slept, and %d woke.\n"
PROSE = b"".join(SENTENCE % (i, i * 7 % 13, i % 5) for i in range(400))
AWKWARD = {
    "empty": b"",
    "one byte": b"\xff",
    "NUL bytes": bytes(5000),
    "invalid UTF-8": bytes(range(128, 256)) * 40,
    "random": RANDOM.bytes(20000),
    "one letter": b"a" * 150_000,
    "far repeat": RANDOM.bytes(70_000) * 3,
    "prose": PROSE,
    "machine words": np.arange(6000, dtype="<u4").tobytes(),
}


def xz_size(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", AWKWARD)
def test_any_bytes_come_back_and_are_never_much_larger_than_xz(preset: str, name: str) -> None:
    data = AWKWARD[name]
    coded = codeckit.encode(data, codec="text", preset=preset, settings={"block_kib": 64})
    assert codeckit.decode(coded) == data
    assert len(coded) <= xz_size(data) * 1.001 + 300


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=3000), preset=st.sampled_from(PRESETS))
def test_round_trip_of_arbitrary_bytes(data: bytes, preset: str) -> None:
    assert codeckit.decode(codeckit.encode(data, codec="text", preset=preset)) == data


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    data = PROSE * 6
    settings_ = {"block_kib": 16}
    one = codeckit.encode(data, codec="text", preset="fast", settings=settings_, context=RunContext(threads=1))
    two = codeckit.encode(data, codec="text", preset="fast", settings=settings_, context=RunContext(threads=2))
    assert one == two
    assert codeckit.decode(one, context=RunContext(threads=1)) == codeckit.decode(two, context=RunContext(threads=2))


def test_a_range_decodes_only_its_bytes() -> None:
    data = PROSE * 4
    coded = codeckit.encode(data, codec="text", preset="fast", settings={"block_kib": 16})
    for start, stop in ((0, 1), (16383, 16385), (40000, 70001), (len(data) - 1, len(data))):
        part = codeckit.decode(coded, selection=Selection(ranges={"range": (start, stop)}))
        assert part == data[start:stop]
    with pytest.raises(InvalidParameter):
        codeckit.decode(coded, selection=Selection(ranges={"range": (5, len(data) + 1)}))


def test_a_view_reads_slices() -> None:
    data = PROSE * 4
    coded = codeckit.encode(data, codec="text", preset="fast", settings={"block_kib": 16})
    with codeckit.open(io.BytesIO(coded)) as view:
        assert view.size_bytes == len(data)
        assert view.read(20000, 20010) == data[20000:20010]
        assert view.read(len(data) - 5) == data[-5:]
        with pytest.raises(InvalidParameter):
            view.read(0, len(data) + 1)


def test_damage_is_an_error_never_wrong_bytes() -> None:
    data = PROSE[:4000]
    coded = bytearray(codeckit.encode(data, codec="text", preset="fast"))
    for position in range(0, len(coded), 7):
        damaged = bytearray(coded)
        damaged[position] ^= 0x10
        with pytest.raises(CodecError):
            codeckit.decode(bytes(damaged))
    for size in range(0, len(coded), 11):
        with pytest.raises(CodecError):
            codeckit.decode(bytes(coded[:size]))


def crafted(payload: bytes, size: int, weights: tuple[str, ...] = (), profile: str = "text-mixing-1") -> bytes:
    """A sound container around one hand-made block."""
    buffer = io.BytesIO()
    writer = ContainerWriter(buffer)
    writer.write_header(
        Header(codec="text", bitstream=1, parameters={"preset": "fast"}, profile=profile, weights=weights)
    )
    writer.write_chunk("TBLK", payload, span=(0, size), decoded_size=size)
    writer.finish()
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("payload", "size"),
    [
        (b"", 3),
        (b"\x00ab", 3),
        (b"\x05abc", 3),
        (b"\x1fabc", 3),
        (b"\x22abc", 3),
        (b"\x01abc", 3),
        (b"\x11", 100),
        (b"\x11" + bytes(50), 10),
        (b"\x00", 0),
        (b"\x00", 1 << 40),
    ],
)
def test_blocks_no_encoder_writes_are_refused(payload: bytes, size: int) -> None:
    with pytest.raises(CorruptFile):
        codeckit.decode(crafted(payload, size))


def test_a_file_for_another_model_or_profile_is_refused() -> None:
    with pytest.raises(NumericProfileMismatch):
        codeckit.decode(crafted(b"\x00abc", 3, profile="text-mixing-999"))


def test_a_block_of_another_byte_model_is_refused() -> None:
    with pytest.raises(NumericProfileMismatch, match="byte model 0123456789abcdef"):
        codeckit.decode(crafted(b"\x21abc", 3, weights=("0123456789abcdef" * 4,)))


def test_the_model_is_used_where_it_helps_and_named_only_then() -> None:
    english = (Path(__file__).parent / "golden" / "windows.txt").read_bytes()[:3000]
    for data, primed in ((english, True), (english[:60], False), (RANDOM.bytes(3000), False)):
        coded = codeckit.encode(data, codec="text", preset="balanced")
        with ContainerReader(coded) as reader:
            assert bool(reader.header.weights) == primed
        without = codeckit.encode(data, codec="text", preset="balanced", settings={"model": False})
        assert len(coded) < len(without) if primed else coded == without


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(InvalidParameter, match="block_kib"):
        codeckit.encode(b"x", codec="text", settings={"block_kib": 1})
    with pytest.raises(InvalidParameter):
        codeckit.encode(b"x", codec="text", settings={"preset": "slow"})


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_real_text_shrinks_below_xz(preset: str, text_corpus: Path) -> None:
    for name in ("alice29.txt", "progc"):
        data = (text_corpus / name).read_bytes()
        coded = codeckit.encode(data, codec="text", preset=preset)
        assert codeckit.decode(coded) == data
        assert len(coded) < 0.95 * xz_size(data)


def test_the_file_says_what_it_is() -> None:
    coded = codeckit.encode(PROSE, codec="text", preset="fast")
    with ContainerReader(coded) as reader:
        assert reader.header.codec == "text"
        assert reader.header.parameters["bytes"] == len(PROSE)
        assert [entry.type for entry in reader.index()] == ["TBLK"]
