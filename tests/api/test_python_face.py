"""The Python interface: arrays and streams in and out, readers that live inside pipelines."""

from __future__ import annotations

import io
import multiprocessing
import pickle
from pathlib import Path

import pytest

import codeckit
from codeckit import InvalidParameter, RunContext, Selection, UnsupportedInput

TEXT = b"a small piece of text " * 30


@pytest.fixture
def file(tmp_path: Path, reverse_codec: str) -> Path:
    path = tmp_path / "a.ck"
    codeckit.encode(TEXT, path, codec=reverse_codec)
    return path


def test_bytes_paths_and_file_objects_are_all_inputs(tmp_path: Path, reverse_codec: str):
    (tmp_path / "t.txt").write_bytes(TEXT)
    expected = codeckit.encode(TEXT, codec=reverse_codec)
    assert codeckit.encode(tmp_path / "t.txt", codec=reverse_codec) == expected
    assert codeckit.encode(str(tmp_path / "t.txt"), codec=reverse_codec) == expected
    assert codeckit.encode(io.BytesIO(TEXT), codec=reverse_codec) == expected
    assert codeckit.encode(memoryview(TEXT), codec=reverse_codec) == expected
    for source in (expected, bytearray(expected), io.BytesIO(expected)):
        assert codeckit.decode(source) == TEXT


def test_reports_count_the_bytes_of_the_files(file: Path, tmp_path: Path):
    report = codeckit.encode(TEXT, tmp_path / "b.ck", codec="reverse")
    assert (report.input_bytes, report.output_bytes) == (len(TEXT), (tmp_path / "b.ck").stat().st_size)
    decoded = codeckit.decode(file, tmp_path / "b.txt")
    assert (decoded.input_bytes, decoded.output_bytes) == (file.stat().st_size, len(TEXT))


def test_a_selection_decodes_only_its_part(file: Path):
    assert codeckit.decode(file, selection=Selection(ranges={"range": (10, 99)})) == TEXT[10:99]
    assert codeckit.decode(file, selection=Selection(ranges={"range": (600, None)})) == TEXT[600:]
    for bad in ((5, 5), (0, len(TEXT) + 1), (-1, 3)):
        with pytest.raises(InvalidParameter, match="not within"):
            codeckit.decode(file, selection=Selection(ranges={"range": bad}))
    with pytest.raises(InvalidParameter, match="cannot select frames"):
        codeckit.decode(file, selection=Selection(ranges={"frames": (0, 1)}))


def read_block(reader: codeckit.FileReader) -> bytes:
    block: bytes = reader.block(3)
    return block


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_travel_to_other_processes(file: Path, method: str, plugin_folder: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(plugin_folder))
    with codeckit.open(file) as reader:
        here = reader.block(3)
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(read_block, [reader] * 4) == [here] * 4
        assert reader.block(3) == here


def test_forked_readers_do_not_share_a_file_position(file: Path):
    """A handle inherited through fork would interleave seeks of parent and child."""
    with codeckit.open(file) as reader:
        reader.block(0)
        global inherited
        inherited = reader
        with multiprocessing.get_context("fork").Pool(4) as pool:
            blocks = pool.map(read_inherited, [number % 10 for number in range(200)])
    assert blocks == [TEXT[64 * (n % 10) : 64 * (n % 10) + 64] for n in range(200)]


inherited: codeckit.FileReader


def read_inherited(number: int) -> bytes:
    block: bytes = inherited.block(number)
    return block


def test_readers_are_pickled_by_path_and_reopen_after_close(file: Path):
    reader = codeckit.open(file)
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.block(1) == reader.block(1)
    reader.close()
    assert reader.block(1) == copy.block(1)
    with pytest.raises(InvalidParameter, match="pickled"):
        pickle.dumps(codeckit.open(io.BytesIO(file.read_bytes())))


def test_readers_name_what_they_have(file: Path):
    with pytest.raises(AttributeError, match="block_count"):
        _ = codeckit.open(file).frames


def test_info_and_verify(file: Path):
    found = codeckit.info(file)
    assert (found.codec, found.problem, found.description) == ("reverse", None, {"block size": 64})
    assert codeckit.verify(file) == found.chunks[0].count


def test_a_file_of_an_unknown_codec_can_be_described_and_verified_but_not_decoded(tmp_path: Path):
    from codeckit.formats.header import Header
    from codeckit.formats.writer import ContainerWriter

    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    writer.write_header(Header(codec="from-the-future", bitstream=1))
    writer.finish()
    assert "no codec is called" in str(codeckit.info(stream.getvalue()).problem)
    assert codeckit.verify(stream.getvalue()) == 0
    with pytest.raises(codeckit.UnknownCodec):
        codeckit.decode(stream.getvalue())


def test_a_newer_bitstream_is_refused(tmp_path: Path, reverse_codec: str):
    from codeckit.formats.header import Header
    from codeckit.formats.writer import ContainerWriter

    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    writer.write_header(Header(codec=reverse_codec, bitstream=2, parameters={"block_bytes": 1}))
    writer.finish()
    with pytest.raises(codeckit.UnsupportedVersion, match="upgrade"):
        codeckit.decode(stream.getvalue())
    with pytest.raises(codeckit.UnsupportedVersion, match="upgrade"):
        _ = codeckit.open(stream.getvalue()).block_count


@pytest.mark.parametrize(
    ("needs", "error"),
    [
        ({"profile": "dense-9"}, codeckit.NumericProfileMismatch),
        ({"weights": ("0" * 64,)}, codeckit.UnsupportedVersion),
    ],
)
def test_a_file_that_needs_what_the_codec_does_not_check_is_refused(reverse_codec: str, needs, error):
    from codeckit.formats.header import Header
    from codeckit.formats.writer import ContainerWriter

    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    writer.write_header(Header(codec=reverse_codec, bitstream=1, parameters={"block_bytes": 1}, **needs))
    writer.finish()
    with pytest.raises(error, match="version that wrote"):
        codeckit.decode(stream.getvalue())


def test_verification_on_encode_catches_a_codec_that_loses_data(tmp_path: Path, reverse_codec: str, monkeypatch):
    import reverse_codec as module

    codeckit.encode(TEXT, tmp_path / "good.ck", codec=reverse_codec, verify=True)
    honest = module.ReverseCodec.encode

    def forgetful(self, source, sink, params, *, context):
        source.read(1)
        return honest(self, source, sink, params, context=context)

    monkeypatch.setattr(module.ReverseCodec, "encode", forgetful)
    with pytest.raises(codeckit.CorruptFile, match="verification failed"):
        codeckit.encode(TEXT, tmp_path / "bad.ck", codec=reverse_codec, verify=True)
    assert not (tmp_path / "bad.ck").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory\nat 0x0")])
def test_exhausted_memory_is_an_error_of_ours(file: Path, reverse_codec: str, monkeypatch, error: Exception):
    import reverse_codec as module

    def exhausted(self, *arguments, **more):
        raise error

    monkeypatch.setattr(module.ReverseCodec, "encode", exhausted)
    monkeypatch.setattr(module.ReverseCodec, "decode", exhausted)
    for action in (lambda: codeckit.encode(TEXT, codec=reverse_codec), lambda: codeckit.decode(file)):
        with pytest.raises(codeckit.LimitExceeded, match="memory ran out") as caught:
            action()
        assert "\n" not in str(caught.value)


def test_what_cannot_be_encoded_says_so(tmp_path: Path, reverse_codec: str):
    with pytest.raises(UnsupportedInput, match="object"):
        codeckit.encode(object(), codec=reverse_codec)
    with pytest.raises(UnsupportedInput, match="name the codec"):
        codeckit.encode(object())
    (tmp_path / "a.ck").write_bytes(codeckit.encode(TEXT, codec=reverse_codec))
    with pytest.raises(UnsupportedInput, match="already"):
        codeckit.encode(tmp_path / "a.ck")
    with pytest.raises(InvalidParameter, match="device"):
        RunContext(device="abacus")
