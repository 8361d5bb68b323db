"""The compact form of small files: another spelling of the same container, refused when anything in it is wrong."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given

import codeckit
from codeckit import (
    ChecksumMismatch,
    CodecError,
    CorruptFile,
    InvalidParameter,
    LimitExceeded,
    Limits,
    TruncatedFile,
    UnsupportedVersion,
)
from codeckit.formats.checksums import checksum64
from codeckit.formats.compact_form import COMPACT_MAGIC, MOST_CHUNKS, MOST_PAYLOAD
from codeckit.formats.header import MAGIC, Header
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter

from .test_container import OneWay, chunks, parameters

HEADER = Header(codec="store", bitstream=1)
Content = list[tuple[str, bytes, tuple[int, ...], int]]


def build(content: Content, header: Header = HEADER, *, compact: bool = True) -> bytes:
    stream = io.BytesIO()
    writer = ContainerWriter(stream, compact=compact)
    writer.write_header(header)
    for kind, payload, span, decoded_size in content:
        writer.write_chunk(kind, payload, span=span, decoded_size=decoded_size)
    assert writer.finish() == len(stream.getvalue())
    return stream.getvalue()


@given(chunks, parameters)
def test_both_forms_hold_the_same(content: Content, values):
    header = Header(codec="store", bitstream=300, parameters=values, profile="größer", weights=("0" * 64, "9f" * 32))
    long, compact = build(content, header, compact=False), build(content, header)
    assert long.startswith(MAGIC)
    assert compact.startswith(COMPACT_MAGIC)
    assert len(compact) < len(long)
    for source in (compact, OneWay(compact)):
        reader = ContainerReader(source)
        assert reader.header == header
        found = list(reader.chunks())
        assert reader.size_bytes == len(compact)
        assert [(c.type, c.payload, c.decoded_size) for c in found] == [(k, p, d) for k, p, _, d in content]
        assert reader.verified
    reader = ContainerReader(compact)
    assert [chunk.span for chunk in reader.chunks()] == [span for _, _, span, _ in content]
    assert list(map(reader.read, reader.index())) == [payload for _, payload, _, _ in content]
    assert long.startswith(b"".join(reader.content_pieces()))


def test_chunks_of_a_stream_are_given_as_they_come():
    """A transfer that has stopped in the middle must not keep back what has come."""
    data = build([("DATA", bytes([number]) * 100, (number,), 0) for number in range(5)])

    class Stopped(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(size)
            if not piece:
                raise AssertionError("waits for ever")
            return piece

    chunks_read = ContainerReader(Stopped(data[:-200])).chunks()
    assert [next(chunks_read).payload[0] for _ in range(3)] == [0, 1, 2]


def test_a_single_chunk_costs_45_bytes():
    data = build([("DATA", bytes(1000), (0, 1000), 1000)])
    assert len(data) - 1000 == 45


def test_what_becomes_too_large_is_written_in_the_long_form():
    half = bytes(MOST_PAYLOAD // 2)
    largest: Content = [("DATA", half, (0, 1), 0), ("DATA", half, (1, 2), 0)]
    assert build(largest).startswith(COMPACT_MAGIC)
    larger = [*largest, ("DATA", b"x", (2, 3), 0), ("DATA", b"y", (3, 4), 0)]
    assert build(larger) == build(larger, compact=False)
    many: Content = [("DATA", b"", (), 0)] * MOST_CHUNKS
    assert build(many).startswith(COMPACT_MAGIC)
    assert build([*many, many[0]]) == build([*many, many[0]], compact=False)
    talkative = Header(codec="store", bitstream=1, parameters={"why": "x" * 300_000})
    assert build([], talkative) == build([], talkative, compact=False)


def test_a_payload_that_is_written_over_afterwards_stays_what_it_was():
    stream, payload = io.BytesIO(), bytearray(b"before")
    writer = ContainerWriter(stream, compact=True)
    writer.write_header(HEADER)
    writer.write_chunk("DATA", payload)
    payload[:] = b"after!"
    writer.finish()
    assert [chunk.payload for chunk in ContainerReader(stream.getvalue()).chunks()] == [b"before"]


def test_a_writer_is_used_in_its_order():
    writer = ContainerWriter(io.BytesIO(), compact=True)
    with pytest.raises(ValueError, match="header"):
        writer.write_chunk("DATA", b"")
    with pytest.raises(ValueError, match="header"):
        writer.finish()
    writer.write_header(HEADER)
    writer.finish()
    with pytest.raises(ValueError, match="finished"):
        writer.write_chunk("DATA", b"")
    with pytest.raises(ValueError, match="finished"):
        writer.finish()
    with pytest.raises(LimitExceeded):
        small = ContainerWriter(io.BytesIO(), limits=Limits(max_chunk_bytes=3), compact=True)
        small.write_header(HEADER)
        small.write_chunk("DATA", b"four")


def test_every_cut_and_every_bit_flip_is_refused():
    header = Header(codec="store", bitstream=1, parameters={"a": [1, "b"]}, profile="p", weights=("ab" * 32,))
    data = build([("DATA", b"first one", (0, 9), 9), ("more", b"second", (), 0)], header)
    for size in range(len(data)):
        with pytest.raises(CodecError):
            list(ContainerReader(data[:size]).chunks())
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(CodecError):
            list(ContainerReader(bytes(damaged)).chunks())
    with pytest.raises(CorruptFile, match="follow the end"):
        ContainerReader(data + b"\0")


def test_recovery_gives_the_chunks_that_are_whole():
    content: Content = [("DATA", bytes([number]) * 100, (number,), 0) for number in range(5)]
    data = bytearray(build(content))
    data[-250] ^= 1  # in the middle of chunk 2
    reader = ContainerReader(bytes(data), recover=True)
    assert [chunk.payload[0] for chunk in reader.chunks()] == [0, 1, 3, 4]
    assert len(reader.warnings) == 1
    cut = ContainerReader(build(content)[:-150], recover=True)
    assert [(chunk.payload[0], chunk.span) for chunk in cut.chunks()] == [(0, (0,)), (1, (1,)), (2, (2,))]
    with pytest.raises(TruncatedFile, match="inside its chunks"):
        ContainerReader(build(content)[:-150])
    followed = ContainerReader(build(content) + b"x", recover=True)
    assert [chunk.payload[0] for chunk in followed.chunks()] == [0, 1, 2, 3, 4]


def test_recovery_is_not_misled_by_chunks_inside_a_payload():
    inner = build([("DATA", b"inner", (9,), 0)], compact=False)
    data = bytearray(build([("DATA", b"a", (0,), 0), ("DATA", b"zz" + inner, (1,), 0), ("DATA", b"c", (2,), 0)]))
    data[data.index(b"zz")] ^= 1
    found = ContainerReader(bytes(data), recover=True).chunks()
    assert [(chunk.payload, chunk.sequence, chunk.span) for chunk in found] == [(b"a", 0, (0,)), (b"c", 2, (2,))]


def test_damage_is_named_by_the_number_of_its_chunk():
    data = bytearray(build([("DATA", bytes(50), (), 0), ("more", bytes(50), (), 0)]))
    data[-1] ^= 1
    with pytest.raises(ChecksumMismatch, match="chunk more, number 1"):
        list(ContainerReader(bytes(data)).chunks())


@pytest.mark.parametrize("compact", [True, False])
def test_what_a_header_cannot_hold_is_refused_when_it_is_written(compact: bool):
    deep: list[object] = []
    for _ in range(15):
        deep = [deep]
    for header in (
        Header(codec="store", bitstream=1, parameters={"a": deep}),  # type: ignore[dict-item]
        Header(codec="store", bitstream=1 << 60),
        Header(codec="store", bitstream=1, profile="\ud800"),
        Header(codec="store", bitstream=1, parameters={"a": 0.5}),  # type: ignore[dict-item]
    ):
        with pytest.raises(InvalidParameter):
            ContainerWriter(io.BytesIO(), compact=compact).write_header(header)


def test_a_header_that_is_changed_after_it_was_written_stays_what_it_was():
    values: dict[str, object] = {"a": [1]}
    stream = io.BytesIO()
    writer = ContainerWriter(stream, compact=True)
    writer.write_header(Header(codec="store", bitstream=1, parameters=values))  # type: ignore[arg-type]
    values["a"] = [2]
    writer.finish()
    assert ContainerReader(stream.getvalue()).header.parameters == {"a": [1]}


def forged(directory: bytes, payloads: bytes = b"") -> bytes:
    """A compact file whose directory is anything, with its checksum right."""
    assert len(directory) < 128
    head = COMPACT_MAGIC + bytes([1, len(directory)]) + directory
    return head + checksum64(head).to_bytes(8, "little") + payloads


SOUND = b"\x05store\x01\x00\x00\x00"


@pytest.mark.parametrize(
    "directory",
    [
        SOUND + b"\x00more",  # bytes after the last entry
        SOUND + b"\x01DATA",  # an entry that ends early
        SOUND + b"\x01DA1A\x00\x00\x00" + bytes(8),
        SOUND + b"\x01INDX\x00\x00\x00" + bytes(8),
        SOUND + b"\x01DATA\x00\x00\x09" + bytes(17),  # nine values in a span
        SOUND + b"\x01DATA\xff\xff\xff\xff\x7f\x00\x00" + bytes(8),
        SOUND + b"\xff\xff\x7f",  # two million chunks
        SOUND + b"\x80\x00",  # not the shortest form
        b"\x05STORE\x01\x00\x00\x00\x00",
        b"\x05store\x00\x00\x00\x00\x00",  # bitstream version 0
        b"\x05store\x01\x02{}\x00\x00\x00",  # empty parameters spelt out
        b"\x05store\x01\x03[1]\x00\x00\x00",
        b"\x05store\x01\x00\x01\xff\x00\x00",  # a profile that is not UTF-8
        b"\x05store\x01\x00\x00\x7f\x00",  # digests that are not there
        b"\x7fstore\x01\x00\x00\x00\x00",
        b"",
    ],
)
def test_a_forged_directory_is_refused(directory: bytes):
    with pytest.raises(CorruptFile):
        list(ContainerReader(forged(directory)).chunks())


def test_limits_hold_for_the_compact_form():
    sound = forged(
        SOUND + b"\x01DATA\x04\xff\xff\xff\xff\xff\x7f\x00" + checksum64(b"data").to_bytes(8, "little"), b"data"
    )
    with pytest.raises(LimitExceeded, match="max_output_bytes"):
        list(ContainerReader(sound, limits=Limits(max_output_bytes=1 << 30)).chunks())
    with pytest.raises(LimitExceeded, match="max_header_bytes"):
        wordy = Header(codec="store", bitstream=1, parameters={"why": "x" * 100})
        ContainerReader(build([], wordy), limits=Limits(max_header_bytes=100))
    half = forged(SOUND + (b"\x02" + 2 * (b"DATA\x80\x80\x28\x00\x00" + bytes(8))), bytes(MOST_PAYLOAD * 2))
    with pytest.raises(CorruptFile, match="payloads of 1,310,720 bytes"):
        ContainerReader(half)
    newer = bytearray(build([]))
    newer[len(COMPACT_MAGIC)] = 2
    with pytest.raises(UnsupportedVersion):
        ContainerReader(bytes(newer))


def test_forged_directories_raise_nothing_but_codec_errors():
    generator = random.Random(7)
    data, none = (checksum64(payload).to_bytes(8, "little") for payload in (b"data", b""))
    sound = SOUND + b"\x02DATA\x04\x04\x02\x00\x04" + data + b"more\x00\x00\x00" + none
    assert [chunk.payload for chunk in ContainerReader(forged(sound, b"data")).chunks()] == [b"data", b""]
    refused = 0
    for _ in range(5000):
        directory = bytearray(sound)
        for _ in range(generator.randint(1, 4)):
            directory[generator.randrange(len(directory))] = generator.choice((0, 1, 127, 128, 255, 65))
        try:
            list(ContainerReader(forged(bytes(directory), b"data")).chunks())
        except CodecError:
            refused += 1
    assert 4000 < refused < 5000  # some damage leaves a directory that is another, sound one


def test_small_inputs_become_compact_files_and_large_ones_do_not(reverse_codec: str):
    small = codeckit.encode(b"abc", codec=reverse_codec)
    assert small.startswith(COMPACT_MAGIC)
    assert codeckit.decode(small) == b"abc"
    assert codeckit.info(small).size_bytes == len(small)
    large = codeckit.encode(bytes(MOST_PAYLOAD + 1), codec=reverse_codec)
    assert large.startswith(MAGIC)


def test_a_compact_file_is_known_as_a_codeckit_file(tmp_path, reverse_codec: str):
    file = tmp_path / "small.ck"
    codeckit.encode(b"abc", file, codec=reverse_codec)
    with pytest.raises(CodecError, match="codeckit file already"):
        codeckit.encode(file)


@pytest.mark.parametrize("compact", [True, False])
def test_a_critical_chunk_that_is_unknown_is_refused_and_an_ancillary_one_is_not(compact: bool, reverse_codec: str):
    data = codeckit.encode(b"abc", codec=reverse_codec)
    with ContainerReader(data) as reader:
        header, content = reader.header, [(c.type, c.payload, c.span or (), c.decoded_size) for c in reader.chunks()]
    assert codeckit.decode(build([*content, ("note", b"", (), 0)], header, compact=compact)) == b"abc"
    with pytest.raises(UnsupportedVersion, match="NEWS"):
        codeckit.decode(build([*content, ("NEWS", b"", (), 0)], header, compact=compact))
