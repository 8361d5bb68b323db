"""Cache files decoded layer by layer while they arrive over real sockets."""

from __future__ import annotations

import io
import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import codeckit
from codeckit import kv
from codeckit.benchmarks.throttled_server import ThrottledServer
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter

CODECS = {"cachegen": {"chunk_tokens": 64}, "kv": {"chunk_tokens": 64}, "kv-lossless": {"chunk_tokens": 64}}


@pytest.fixture(params=sorted(CODECS))
def cache_file(request: pytest.FixtureRequest, small_cache: kv.Cache) -> bytes:
    return codeckit.encode(small_cache, codec=request.param, settings=CODECS[request.param])


def same(one: kv.Cache, other: kv.Cache) -> bool:
    return one.table == other.table and all(
        np.array_equal(tensor.data.view(np.uint16), other.parts[layer, part.role].data.view(np.uint16))
        for layer, part, tensor in one.each()
    )


def test_a_stream_gives_what_decode_gives_layer_by_layer_within_each_chunk(cache_file: bytes) -> None:
    with kv.stream(cache_file) as stream:
        pieces = [(piece.start, piece.stop, piece.layer) for piece in stream]
        assert same(stream.cache, kv.decode(cache_file))
    spans = [(0, 64), (64, 128), (128, 160)]
    assert pieces == [(*span, layer) for span, layer in itertools.product(spans, range(6))]


def test_layers_are_decoded_while_later_bytes_have_not_been_sent(cache_file: bytes, server: ThrottledServer) -> None:
    (server.folder / "context.ck").write_bytes(cache_file)
    gate = threading.Event()
    server.pause_after = (17 * len(cache_file) // 20, gate)
    with kv.stream(f"{server.url}/context.ck") as stream:
        pieces = iter(stream)
        early = [next(pieces) for _ in range(6)]
        assert not gate.is_set()
        assert server.sent_bytes < len(cache_file)
        assert [piece.layer for piece in early] == [0, 1, 2, 3, 4, 5]
        expected = kv.decode(cache_file)
        for piece in early:
            want = expected.parts[piece.layer, "key"].data[:, piece.start : piece.stop]
            assert np.array_equal(piece.parts["key"].data, want)
        gate.set()
        assert len(list(pieces)) == 12
        assert same(stream.cache, expected)


def test_a_server_without_ranges_is_enough_for_streaming(cache_file: bytes, server: ThrottledServer) -> None:
    (server.folder / "context.ck").write_bytes(cache_file)
    server.with_ranges = False
    assert same(kv.stream(f"{server.url}/context.ck").finish(), kv.decode(cache_file))


def test_ranges_over_http_fetch_only_what_they_need(small_cache: kv.Cache, server: ThrottledServer) -> None:
    data = codeckit.encode(small_cache, codec="kv-lossless", settings={"chunk_tokens": 8})
    (server.folder / "context.ck").write_bytes(data)
    url = f"{server.url}/context.ck"
    part = kv.decode(url, layers=(2, 4), tokens=(70, 80))
    expected = kv.decode(data, layers=(2, 4), tokens=(70, 80))
    assert same(part, expected)
    assert server.ranges
    with kv.stream(url, layers=(2, 4), tokens=(70, 80)) as stream:
        assert [piece.layer for piece in stream] == [0, 1, 0, 1]
        assert same(stream.cache, expected)


def test_a_server_without_ranges_is_named_when_ranges_are_asked_for(cache_file: bytes, server: ThrottledServer) -> None:
    larger = io.BytesIO()
    writer = ContainerWriter(larger)  # the long form: a compact file is always read whole
    with ContainerReader(cache_file) as reader:
        writer.write_header(reader.header)
        for chunk in reader.chunks():
            writer.write_chunk(chunk.type, chunk.payload, span=chunk.span or (), decoded_size=chunk.decoded_size)
    writer.write_chunk("void", bytes(8 * len(cache_file)))  # more than one request
    writer.finish()
    (server.folder / "context.ck").write_bytes(larger.getvalue())
    server.with_ranges = False
    with pytest.raises(codeckit.ExternalFailure, match="no byte ranges"):
        kv.decode(f"{server.url}/context.ck", tokens=(0, 8))


@pytest.mark.parametrize("form", ["path", "file", "memory", "redis"])
def test_every_kind_of_source_gives_the_same(
    form: str, cache_file: bytes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: object
    if form == "path":
        source = tmp_path / "context.ck"
        source.write_bytes(cache_file)
    elif form == "file":
        source = io.BytesIO(cache_file)
    elif form == "memory":
        fsspec = pytest.importorskip("fsspec")
        source = "memory://contexts/context.ck"
        fsspec.filesystem("memory").pipe_file("contexts/context.ck", cache_file)
    else:
        redis = pytest.importorskip("redis")
        url = request.getfixturevalue("redis_url")
        redis.Redis.from_url(url.removesuffix("/contexts")).set("contexts/context.ck", cache_file)
        source = f"{url}/context.ck"
    with kv.stream(source) as stream:  # type: ignore[arg-type]
        assert same(stream.finish(), kv.decode(cache_file))


def test_a_connection_cut_in_the_middle_of_a_layer_is_an_error_after_the_layers_that_came(
    cache_file: bytes, server: ThrottledServer
) -> None:
    (server.folder / "context.ck").write_bytes(cache_file)
    server.cut_after = 17 * len(cache_file) // 20
    server.throttle.start((0, 2 * len(cache_file)))
    seen = []
    with kv.stream(f"{server.url}/context.ck") as stream, pytest.raises(codeckit.CodecError):
        seen.extend(iter(stream))
    assert 6 <= len(seen) < 18


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.95])
def test_a_truncated_or_damaged_stream_never_gives_a_cache(cache_file: bytes, place: float) -> None:
    cut = int(len(cache_file) * place)
    with pytest.raises(codeckit.TruncatedFile):
        kv.stream(io.BytesIO(cache_file[:cut])).finish()
    damaged = bytearray(cache_file)
    damaged[cut] ^= 0x40
    with pytest.raises(codeckit.CorruptFile):
        kv.stream(io.BytesIO(bytes(damaged))).finish()


def test_nothing_at_the_address_and_nobody_there_are_named(server: ThrottledServer) -> None:
    with pytest.raises(codeckit.InvalidParameter, match="nothing at"):
        kv.stream(f"{server.url}/missing.ck")
    with pytest.raises(codeckit.ExternalFailure, match="failed"):
        kv.stream("http://127.0.0.1:9/context.ck")
    with pytest.raises(codeckit.ExternalFailure):
        kv.stream("nosuchprotocol://host/context.ck")


def test_a_file_that_is_no_cache_is_refused(server: ThrottledServer) -> None:
    (server.folder / "note.ck").write_bytes(codeckit.encode(b"some text", codec="text"))
    with pytest.raises(codeckit.InvalidParameter, match="no KV cache"):
        kv.stream(f"{server.url}/note.ck")


def test_leaving_a_stream_stops_the_transfer(cache_file: bytes, server: ThrottledServer) -> None:
    (server.folder / "context.ck").write_bytes(cache_file)
    gate = threading.Event()
    server.pause_after = (17 * len(cache_file) // 20, gate)
    server.throttle.start((0, len(cache_file)))
    with kv.stream(f"{server.url}/context.ck") as stream:
        next(iter(stream))
    gate.set()
    time.sleep(0.5)  # the server needs 0.15 s for the rest, were anybody to take it
    assert server.sent_bytes < len(cache_file)
