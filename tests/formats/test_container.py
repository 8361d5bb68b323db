"""The container: what is written is read back, in any order, from any source, and costs little."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeckit import InvalidParameter, LimitExceeded, Limits, TruncatedFile, UnsupportedVersion
from codeckit.formats.append import appending
from codeckit.formats.chunk import END_PAYLOAD_SIZE, FOOTER_SIZE, OVERHEAD, pack_footer
from codeckit.formats.header import FORMAT_VERSION, Header
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter

HEADER = Header(codec="store", bitstream=1)

chunk_types = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=4, max_size=4).filter(
    lambda name: name not in ("INDX", "ENDC")
)
spans = st.lists(st.integers(0, 2**63 - 1), max_size=8).map(tuple)
chunks = st.lists(st.tuples(chunk_types, st.binary(max_size=300), spans, st.integers(0, 2**40)), max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=12)
parameters = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=8
    ),
    max_size=4,
)


def build(content: list[tuple[str, bytes, tuple[int, ...], int]], header: Header = HEADER) -> bytes:
    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    writer.write_header(header)
    for kind, payload, span, decoded_size in content:
        writer.write_chunk(kind, payload, span=span, decoded_size=decoded_size)
    assert writer.finish() == len(stream.getvalue())
    return stream.getvalue()


class OneWay(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time, as a slow pipe does."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        return self._inner.read(min(size, 7) if size >= 0 else size)


@given(chunks, parameters)
def test_chunks_come_back_from_bytes_and_from_a_pipe(content, values):
    data = build(content, Header(codec="store", bitstream=3, parameters=values, profile="p", weights=("0" * 64,)))
    for source in (data, OneWay(data)):
        reader = ContainerReader(source)
        assert reader.header.parameters == values
        assert (reader.header.bitstream, reader.header.profile, reader.header.weights) == (3, "p", ("0" * 64,))
        found = list(reader.chunks())
        assert [(c.type, c.payload, c.decoded_size) for c in found] == [(k, p, d) for k, p, _, d in content]
        assert reader.verified
        assert reader.warnings == []


@given(chunks, st.randoms())
def test_random_access_gives_each_chunk_and_its_span(content, random):
    reader = ContainerReader(build(content))
    entries = reader.index()
    assert [entry.span for entry in entries] == [span for _, _, span, _ in content]
    order = list(range(len(entries)))
    random.shuffle(order)
    for number in order:
        assert reader.read(entries[number]) == content[number][1]


def test_sequential_reading_survives_random_access_in_between():
    content = [("DATA", bytes([value]) * 50, (value,), 0) for value in range(20)]
    reader = ContainerReader(build(content))
    for chunk in reader.chunks():
        assert reader.read(reader.index()[19 - chunk.sequence]) == content[19 - chunk.sequence][1]
        assert chunk.span == (chunk.sequence,)
    assert reader.verified


def test_a_real_pipe_can_be_written_and_read():
    read_end, write_end = os.pipe()
    payload = os.urandom(300_000)

    def write() -> None:
        with os.fdopen(write_end, "wb") as stream:
            writer = ContainerWriter(stream)
            writer.write_header(HEADER)
            writer.write_chunk("DATA", payload)
            writer.finish()

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(read_end, "rb") as stream:
        reader = ContainerReader(stream)
        assert [chunk.payload for chunk in reader.chunks()] == [payload]
    thread.join()
    with pytest.raises(InvalidParameter, match="seek"):
        reader.index()


def test_a_pipe_cannot_be_read_twice():
    reader = ContainerReader(OneWay(build([])))
    assert list(reader.chunks()) == []
    with pytest.raises(InvalidParameter, match="only once"):
        list(reader.chunks())


def test_the_smallest_file_costs_at_most_300_bytes():
    assert len(build([("DATA", b"", (0, 0), 0)])) <= 300


def test_a_file_over_one_megabyte_costs_under_a_thousandth():
    payload = bytes(100_000)
    data = build([("DATA", payload, (number * 100_000, 100_000), 100_000) for number in range(11)])
    assert len(data) - 11 * len(payload) < 0.001 * 11 * len(payload)


def test_appending_keeps_what_was_there(tmp_path: Path):
    path = tmp_path / "a.ck"
    path.write_bytes(build([("DATA", b"first", (0,), 0)]))
    with appending(path) as writer:
        writer.write_chunk("DATA", b"second", span=(1,))
    with ContainerReader(path) as reader:
        assert [(chunk.payload, chunk.span) for chunk in reader.chunks()] == [(b"first", (0,)), (b"second", (1,))]
        assert reader.verified
    assert os.listdir(tmp_path) == ["a.ck"]


def test_a_failed_append_changes_nothing(tmp_path: Path):
    path = tmp_path / "a.ck"
    before = build([("DATA", b"first", (), 0)])
    path.write_bytes(before)
    with pytest.raises(ZeroDivisionError), appending(path) as writer:
        writer.write_chunk("DATA", b"second")
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.ck"]


def without_index(content: list[tuple[str, bytes, tuple[int, ...], int]]) -> bytes:
    """A valid file whose writer left the index out, made by hand from the specification."""
    import hashlib

    from codeckit.formats.chunk import ChunkHeader, payload_checksum

    data = HEADER.to_bytes()
    for number, (kind, payload, _, size) in enumerate(content):
        head = ChunkHeader(type=kind, sequence=number, length=len(payload), decoded_size=size)
        data += head.to_bytes() + payload + payload_checksum(payload)
    digest = hashlib.sha256(data).digest()
    end = ChunkHeader(type="ENDC", sequence=len(content), length=32, decoded_size=0)
    return data + end.to_bytes() + digest + payload_checksum(digest) + pack_footer(0)


def test_a_missing_index_is_scanned_and_said():
    content = [("DATA", b"one", (), 0), ("more", b"two", (), 0)]
    reader = ContainerReader(without_index(content))
    assert [reader.read(entry) for entry in reader.index()] == [b"one", b"two"]
    assert reader.warnings == ["the file has no index; it was scanned"]
    reader = ContainerReader(OneWay(without_index(content)))
    assert [chunk.payload for chunk in reader.chunks()] == [b"one", b"two"]
    assert reader.warnings == ["the file has no index; it was scanned"]


def test_truncation_is_an_error_and_recovery_gives_what_is_whole():
    content = [("DATA", bytes([value]) * 100, (value,), 0) for value in range(5)]
    data = build(content)
    cut = data[: len(HEADER.to_bytes()) + 3 * (OVERHEAD + 100) + 60]
    with pytest.raises(TruncatedFile):
        list(ContainerReader(cut).chunks())
    reader = ContainerReader(cut, recover=True)
    assert [chunk.payload for chunk in reader.chunks()] == [payload for _, payload, _, _ in content[:3]]
    assert any("without its end chunk" in warning for warning in reader.warnings)


def test_recovery_skips_damage_in_the_middle_and_keeps_spans():
    content = [("DATA", bytes([value]) * 100, (value, 1), 0) for value in range(5)]
    data = bytearray(build(content))
    data[len(HEADER.to_bytes()) + (OVERHEAD + 100) + 50] ^= 1
    reader = ContainerReader(bytes(data), recover=True)
    found = list(reader.chunks())
    assert [chunk.sequence for chunk in found] == [0, 2, 3, 4]
    assert [chunk.span for chunk in found] == [(0, 1), (2, 1), (3, 1), (4, 1)]
    assert len(reader.warnings) == 1
    assert [reader.read(entry) for entry in reader.index()] == [chunk.payload for chunk in found]


def test_bytes_after_the_end_are_refused():
    from codeckit import CorruptFile

    with pytest.raises(CorruptFile):
        list(ContainerReader(build([]) + b"x").chunks())
    with pytest.raises(CorruptFile):
        ContainerReader(build([]) + b"x").index()


@pytest.mark.parametrize(("offset", "message"), [(9, "needs a reader of container version 2"), (10, "features 0x0001")])
def test_newer_files_are_refused_with_advice(offset: int, message: str):
    from codeckit.formats.checksums import checksum64

    head = bytearray(HEADER.to_bytes())
    head[offset] = FORMAT_VERSION + 1 if offset == 9 else 1
    if offset == 9:
        head[8] = FORMAT_VERSION + 1
    head[-8:] = checksum64(bytes(head[:-8])).to_bytes(8, "little")
    with pytest.raises(UnsupportedVersion, match=message):
        ContainerReader(bytes(head))


def test_unknown_critical_chunks_are_refused_and_ancillary_ones_are_not():
    reader = ContainerReader(build([("DATA", b"", (), 0), ("note", b"", (), 0)]))
    reader.require_types({"DATA"})
    with pytest.raises(UnsupportedVersion, match="DATA"):
        reader.require_types({"OTHR"})


def test_limits_hold_while_writing_and_reading():
    data = build([("DATA", bytes(1000), (), 0)] * 3)
    for limits in (Limits(max_chunk_bytes=999), Limits(max_chunks=2)):
        with pytest.raises(LimitExceeded):
            list(ContainerReader(OneWay(data), limits=limits).chunks())
    with pytest.raises(LimitExceeded):
        ContainerReader(data, limits=Limits(max_header_bytes=10))
    writer = ContainerWriter(io.BytesIO(), limits=Limits(max_chunk_bytes=10))
    writer.write_header(HEADER)
    with pytest.raises(LimitExceeded, match="several chunks"):
        writer.write_chunk("DATA", bytes(11))


def test_a_promised_decoded_size_above_the_limit_is_refused():
    data = build([("DATA", b"small", (), 2**60)])
    with pytest.raises(LimitExceeded, match="max_output_bytes"):
        list(ContainerReader(data).chunks())


def test_misuse_of_the_writer_is_an_error():
    writer = ContainerWriter(io.BytesIO())
    with pytest.raises(ValueError, match="header"):
        writer.write_chunk("DATA", b"")
    writer.write_header(HEADER)
    with pytest.raises(ValueError, match="already"):
        writer.write_header(HEADER)
    for kind in ("INDX", "ENDC", "abc", "ab1d", "äbcd"):
        with pytest.raises(ValueError, match="chunk type"):
            writer.write_chunk(kind, b"")
    with pytest.raises(ValueError, match="span"):
        writer.write_chunk("DATA", b"", span=tuple(range(9)))
    writer.finish()
    with pytest.raises(ValueError, match="finished"):
        writer.write_chunk("DATA", b"")


def test_the_frame_sizes_are_those_of_the_specification():
    assert OVERHEAD == 40
    assert len(build([])) == len(HEADER.to_bytes()) + OVERHEAD + 1 + OVERHEAD + END_PAYLOAD_SIZE + FOOTER_SIZE
