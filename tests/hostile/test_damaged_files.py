"""No damaged file is accepted, and nothing but CodecError escapes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import codeckit
from codeckit import CorruptFile, LimitExceeded
from codeckit.formats.header import Header
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter

from .golden_files import smallest_of_each_codec

SWEEP = Path(__file__).with_name("sweep.py")
GOLDEN = smallest_of_each_codec()
SLOWEST_SECONDS = 2.0
SMALL_BYTES = 4096


def sweep(file: Path, plugin_folder: Path, mode: str, count: int = 0, seconds: int = 0) -> dict[str, object]:
    # one thread: thread stacks would count against the memory cap
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SWEEP), str(file), mode, str(count), str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return dict(json.loads(done.stdout))


def assert_all_refused(result: dict[str, object], at_least: int) -> None:
    assert result["failures"] == []
    assert result["tried"] >= at_least
    assert result["slowest"] < SLOWEST_SECONDS


@pytest.mark.slow
def test_every_truncation_and_every_bit_flip_is_refused(tmp_path: Path, reverse_codec: str, plugin_folder: Path):
    file = tmp_path / "small.ck"
    codeckit.encode(bytes(range(256)) * 4, file, codec=reverse_codec, settings={"block_bytes": 300})
    size = file.stat().st_size
    assert 1024 < size <= 4096
    assert_all_refused(sweep(file, plugin_folder, "every"), at_least=9 * size)


@pytest.mark.slow
def test_ten_thousand_random_mutations_are_refused(tmp_path: Path, reverse_codec: str, plugin_folder: Path):
    file = tmp_path / "larger.ck"
    codeckit.encode(os.urandom(60_000), file, codec=reverse_codec, settings={"block_bytes": 1000})
    assert_all_refused(sweep(file, plugin_folder, "random", 10_000), at_least=9_900)


@pytest.mark.slow
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_no_damage_to_a_file_of_any_codec_is_accepted(golden: Path, plugin_folder: Path):
    """Up to a time; ``sweep.py`` does all of it where the last two arguments are 0."""
    small = golden.stat().st_size <= SMALL_BYTES
    result = sweep(golden, plugin_folder, "every" if small else "random", count=2000, seconds=8)
    assert_all_refused(result, at_least=300)


def with_chunk_header(field: str, value: int) -> bytes:
    """A file whose only chunk promises ``value``, with every checksum right."""
    from codeckit.formats.chunk import ChunkHeader

    values = {"length": 4, "decoded_size": 0, "sequence": 0, field: value}
    head = ChunkHeader(type="DATA", **values)  # type: ignore[arg-type]
    return Header(codec="reverse", bitstream=1).to_bytes() + head.to_bytes() + b"data" + bytes(8)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("length", 2**63, LimitExceeded),
        ("length", 2**30, CorruptFile),
        ("decoded_size", 2**63, LimitExceeded),
        ("sequence", 7, CorruptFile),
    ],
)
def test_a_lying_chunk_header_is_refused_before_allocation(field: str, value: int, error: type[Exception]):
    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(error):
        list(ContainerReader(OneWay(with_chunk_header(field, value))).chunks())


def test_a_lying_index_is_refused():
    from codeckit.formats.chunk import unpack_index

    for payload in (b"\xff\xff\xff\xff\x7f", b"\x01", b"\x01DATA\x05\x09", b"\x01DA1A\x05\x00", b"\x00x", b"\x80\x00"):
        with pytest.raises(CorruptFile):
            unpack_index(payload, 100, 1 << 20)


def test_an_index_that_hides_a_chunk_is_refused():
    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    writer.write_header(Header(codec="reverse", bitstream=1))
    writer.write_chunk("DATA", b"one")
    writer.write_chunk("DATA", b"two")
    writer._entries.pop()  # a writer that lies about what it wrote
    writer.finish()
    with pytest.raises(CorruptFile):
        list(ContainerReader(stream.getvalue()).chunks())
    with pytest.raises(CorruptFile):
        ContainerReader(stream.getvalue()).index()
