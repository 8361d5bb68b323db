"""The windows codec returns the very bytes in every mode, on any cut of the input, and refuses tokens nobody makes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

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

RANDOM = np.random.default_rng(7)
PROSE = "".join(
    f"“Well,” said the captain, on the {i}th of June, “there were {i * 7 % 13} of them, and the sea was calm.”\n"
    for i in range(60)
).encode()
AWKWARD = {
    "empty": b"",
    "one byte": b"\xff",
    "NUL bytes": bytes(3000),
    "invalid UTF-8": bytes(range(128, 256)) * 20,
    "random": RANDOM.bytes(5000),
    "one letter": b"e" * 20_000,
    "prose": PROSE,
}
SCHEMES: list[dict[str, Any]] = [
    *({"bits": bits, "reset_every": k} for bits in (16, 24, 32, 64, 128) for k in (1, 2, 0)),
    *({"bits": bits, "parse": "fewest"} for bits in (16, 24, 128)),
    {"bits": 16, "delayed": True},
    {"bits": 64, "delayed": True},
    {"mode": "dictionary"},
    {"mode": "dictionary", "parse": "longest"},
    {"mode": "ac"},
    {"mode": "static"},
    {"mode": "gzip"},
]


def name_of(scheme: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in scheme.items())


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_any_bytes_come_back(scheme: dict[str, Any]) -> None:
    for name, data in AWKWARD.items():
        assert codeckit.decode(codeckit.encode(data, codec="windows", settings=scheme)) == data, name


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400), scheme=st.sampled_from(SCHEMES), cut=st.integers(0, len(PROSE)))
def test_round_trip_of_arbitrary_bytes_after_any_text(data: bytes, scheme: dict[str, Any], cut: int) -> None:
    text = PROSE[max(0, cut - 300) : cut] + data
    assert codeckit.decode(codeckit.encode(text, codec="windows", settings=scheme)) == text


@pytest.mark.parametrize("scheme", [{"bits": 16}, {"bits": 32, "reset_every": 2}, {"mode": "dictionary"}], ids=name_of)
def test_bytes_do_not_depend_on_the_number_of_threads(scheme: dict[str, Any]) -> None:
    chosen = {**scheme, "block_kib": 1}
    one, two = (
        codeckit.encode(PROSE, codec="windows", settings=chosen, context=RunContext(threads=threads))
        for threads in (1, 2)
    )
    assert one == two
    assert codeckit.decode(one, context=RunContext(threads=3)) == PROSE


def test_range_reads_decode_only_the_blocks_they_touch() -> None:
    coded = codeckit.encode(PROSE, codec="windows", settings={"bits": 24, "block_kib": 1})
    with codeckit.open(coded) as reader:
        assert reader.size_bytes == len(PROSE)
        assert reader.read(1000, 2100) == PROSE[1000:2100]
        assert reader.read(len(PROSE) - 1) == PROSE[-1:]
    assert codeckit.decode(coded, selection=Selection(ranges={"range": (5, 9)})) == PROSE[5:9]


def test_streams_are_coded_in_blocks_of_bounded_size() -> None:
    big = PROSE * (16 * (1 << 20) // len(PROSE) + 2)  # more than is read ahead
    stream = io.BytesIO()
    report = codeckit.encode(io.BytesIO(big), stream, codec="windows", settings={"mode": "dictionary"})
    assert report.input_bytes == len(big)
    assert codeckit.decode(stream.getvalue()) == big


@pytest.mark.parametrize(
    "bad",
    [
        {"bits": 17},
        {"mode": "dictionary", "bits": 32},
        {"mode": "ac", "delayed": True},
        {"mode": "ac", "parse": "longest"},
        {"parse": "fewest", "reset_every": 2},
        {"parse": "fewest", "delayed": True},
        {"block_kib": 0},
        {"reset_every": -1},
        {"mode": "gzip", "model": "model.safetensors"},
    ],
    ids=name_of,
)
def test_settings_that_mean_nothing_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        codeckit.encode(PROSE, codec="windows", settings=bad)


def forged(scheme: dict[str, Any], payload: bytes, size: int, *, digest: str | None = None) -> bytes:
    """A file with valid checksums around a payload no encoder made."""
    with ContainerReader(codeckit.encode(b"x", codec="windows", settings=scheme)) as reader:
        header = reader.header
    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    weights = header.weights if digest is None else (digest,)
    parameters = {**header.parameters, "bytes": size}
    profile = header.profile
    writer.write_header(
        Header(codec="windows", bitstream=header.bitstream, parameters=parameters, profile=profile, weights=weights)
    )
    writer.write_chunk("WTOK", payload, span=(0, size), decoded_size=size)
    writer.finish()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("scheme", "payload", "size", "message"),
    [
        ({"bits": 16}, b"\x00\x00", 1, "id 0 at position 0"),
        ({"bits": 16}, b"\x10", 1, "no whole number"),
        ({"bits": 16}, b"\x10\x20\x10\x20", 1, "were promised"),
        ({"mode": "dictionary"}, b"\x00\x00", 1, "id 0 at position 0"),
        ({"bits": 32}, b"\x00\x00\x00\x00", 1, "no encoder makes it"),
        ({"bits": 32}, b"\x00\x00\x00", 1, "no whole number"),
        ({"bits": 32}, b"", 1, "the windows end"),
        ({"bits": 128}, b"\x00" * 15 + b"\x01", 1, "no encoder makes it"),
        ({"bits": 16, "delayed": True}, b"\xff\xff\xff\xff\xff\xff", 1, "no encoder makes it"),
        ({"mode": "ac"}, b"\xff" * 30, 1, "not the code"),
        ({"mode": "gzip"}, b"\xff" * 30, 1, "not a zlib stream"),
    ],
)
def test_tokens_no_encoder_makes_are_refused(scheme: dict[str, Any], payload: bytes, size: int, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        codeckit.decode(forged(scheme, payload, size))


def test_another_model_is_refused_before_anything_is_decoded() -> None:
    for scheme in ({"bits": 16}, {"bits": 32}, {"mode": "dictionary"}):
        with pytest.raises(NumericProfileMismatch, match=r"0000.*this one is"):
            codeckit.decode(forged(scheme, b"\x10\x20\x10\x20", 1, digest="0" * 64))


def test_a_header_cannot_name_files_to_open() -> None:
    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    parameters = {"mode": "dictionary", "model": "/etc/hostname"}
    writer.write_header(Header(codec="windows", bitstream=1, parameters=parameters, profile="windows-counts-1"))
    writer.finish()
    with pytest.raises(CorruptFile, match="no parameter called model"):
        codeckit.decode(stream.getvalue())


def test_random_payloads_give_bytes_or_a_codec_error() -> None:
    for scheme in SCHEMES:
        for size in (1, 7, 300):
            try:
                decoded = codeckit.decode(forged(scheme, RANDOM.bytes(24), size))
            except CodecError:
                continue
            assert len(decoded) == size


def test_the_command_codes_a_book_and_gives_it_back(tmp_path: Path, run_codec: Any) -> None:
    book = tmp_path / "book.txt"
    book.write_bytes(PROSE)
    done = run_codec("encode", book, "-o", tmp_path / "book.ck", "--codec", "windows", "--set", "bits=16")
    assert done.returncode == 0, done.stderr
    done = run_codec("decode", tmp_path / "book.ck", "-o", tmp_path / "back.txt")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back.txt").read_bytes() == PROSE
