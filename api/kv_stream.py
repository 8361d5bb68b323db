"""``codeckit.kv.stream``: a cache file decoded layer by layer while it arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import numpy as np

from .codecs.kv.streaming import CacheStream, DecodedLayer
from .codecs.protocol import Selection
from .codecs.registry import find_codec
from .codecs.run_context import RunContext
from .formats.arrival import Arrival
from .formats.errors import InvalidParameter
from .formats.object_store import is_url, open_ranges, open_store, open_stream
from .formats.reader import ContainerReader, ContainerSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .codecs.kv.cache import Cache

__all__ = ["LayerStream", "begin_stream", "stream"]


class LayerStream:
    """Iterate to decode: a :class:`DecodedLayer` for each layer of each token chunk, as soon as its bytes have come.

    ``cache`` fills meanwhile and is complete after the last one. A context manager; leaving it stops the transfer.
    """

    def __init__(self, decoding: CacheStream, reader: ContainerReader, cleanup: ExitStack, *, whole: bool) -> None:
        self._decoding = decoding
        self._reader = reader
        self._cleanup = cleanup
        self._whole = whole

    @property
    def cache(self) -> Cache:
        return self._decoding.cache

    def __iter__(self) -> Iterator[DecodedLayer]:
        yield from self._decoding
        if self._whole:
            self._reader.verify()

    def finish(self) -> Cache:
        """Decode what is left and return the cache."""
        for _ in self:
            pass
        return self.cache

    def close(self) -> None:
        """Stop the transfer."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stream(
    source: ContainerSource,
    *,
    layers: tuple[int, int | None] = (0, None),
    tokens: tuple[int, int | None] = (0, None),
    positions: NDArray[np.int64] | Sequence[int] | None = None,
    settings: Mapping[str, str] | None = None,
    context: RunContext | None = None,
    options: Mapping[str, Any] | None = None,
) -> LayerStream:
    """Begin to decode a cache file; nothing is decoded before the result is iterated.

    ``source`` is a path, a binary file object, which need not seek, any URL that fsspec knows (``https://``,
    ``s3://``, ``gs://``, ``memory://``), or ``redis://HOST/DATABASE/KEY``. The transfer runs ahead in its own thread.
    With a range of ``layers`` or ``tokens`` only the chunks that hold it are fetched, by range requests.
    ``positions`` and ``settings`` are those of :func:`codeckit.kv.decode`; ``options`` go to fsspec's file system or
    to Redis.

    Raises :class:`CorruptFile` and its kinds, :class:`InvalidParameter`, :class:`LimitExceeded`, and
    :class:`ExternalFailure` when the transfer fails.
    """
    run = context or RunContext()
    ranges = {axis: pair for axis, pair in (("layers", layers), ("tokens", tokens)) if pair != (0, None)}
    selection = Selection(ranges=ranges, settings=settings or {})
    with ExitStack() as cleanup:
        opened = _open(source, cleanup, ranged=bool(ranges), options=options or {})
        reader = cleanup.enter_context(ContainerReader(opened, limits=run.limits))
        decoding = begin_stream(reader, selection, positions, run)
        return LayerStream(decoding, reader, cleanup.pop_all(), whole=not ranges)


def begin_stream(reader: ContainerReader, selection: Selection, positions: Any, context: RunContext) -> CacheStream:
    """The stream of an opened container; raises :class:`InvalidParameter` when it holds no cache."""
    codec: Any = find_codec(reader.header.codec)
    if not hasattr(codec, "stream_cache"):
        raise InvalidParameter(f"a {codec.id!r} file holds no KV cache that can be decoded layer by layer")
    reader.require_bitstream(newest=codec.bitstream_version)
    places = {} if positions is None else {"positions": np.asarray(positions, np.int64)}
    result: CacheStream = codec.stream_cache(reader, context=context, selection=selection, **places)
    return result


def _open(source: ContainerSource, cleanup: ExitStack, *, ranged: bool, options: Mapping[str, Any]) -> ContainerSource:
    if isinstance(source, str) and is_url(source):
        if source.startswith(("redis://", "rediss://")):
            folder, _, name = source.rpartition("/")
            store = cleanup.enter_context(open_store(folder, **options))
            if ranged:
                raise InvalidParameter("objects in Redis are read whole; leave the ranges out, or decode and cut")
            return _arriving(store.open(name), cleanup, name)
        if ranged:
            return cleanup.enter_context(open_ranges(source, **options))
        return _arriving(open_stream(source, **options), cleanup, source)
    if ranged or isinstance(source, (bytes, bytearray, memoryview)):
        return source
    if hasattr(source, "read"):
        return _arriving(source, cleanup, "the stream")
    path = Path(source)
    try:
        return _arriving(path.open("rb"), cleanup, str(path))
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error


def _arriving(opened: Any, cleanup: ExitStack, name: str) -> BinaryIO:
    arrival = Arrival(opened, name=name)
    cleanup.callback(arrival.close)
    return cast("BinaryIO", arrival)
