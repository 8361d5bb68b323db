"""Loading a cache that is stored at several levels: one thread fetches, the caller's decodes what has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .codecs.kv.cache import Cache
from .codecs.kv.controller import TEXT, Choice, Controller, Rates
from .codecs.kv.decoding import CacheRange, blank_cache
from .codecs.kv.level_set import chunk_table
from .codecs.kv.number_formats import from_float32, to_float32
from .codecs.kv.streaming import DecodedLayer
from .codecs.protocol import Selection
from .formats.arrival import Arrival
from .formats.bandwidth import BandwidthMeter
from .formats.errors import Cancelled, CorruptFile, InvalidParameter
from .formats.reader import ContainerReader
from .formats.tensors import Tensor, as_tensor
from .kv_stream import begin_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .codecs.kv.level_set import LevelSet
    from .codecs.run_context import RunContext
    from .formats.object_store import ObjectStore

__all__ = ["LoadedContext", "Loader", "Recompute"]

Recompute = Callable[["NDArray[np.int64]", Cache, int], Mapping[tuple[int, str], Any]]

_TICK_SECONDS = 0.02
_WAITING_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedContext:
    """A loaded cache, the choices behind it, and how many seconds after the start each chunk was ready."""

    cache: Cache
    log: tuple[Choice, ...]
    ready_seconds: tuple[float, ...]
    received_bytes: int

    @property
    def seconds(self) -> float:
        return self.ready_seconds[-1]

    @property
    def options(self) -> tuple[str, ...]:
        """What each chunk was made from in the end: a level's label or ``text``."""
        final = {choice.chunk: choice.option for choice in self.log}
        return tuple(final[number] for number in sorted(final))


@dataclass(frozen=True, slots=True)
class _Transfer:
    """What is being fetched for a chunk; replaced when the chunk is abandoned for another level."""

    choice: Choice
    arrival: Arrival


class Loader:
    """One load; see :meth:`codeckit.kv.LevelReader.load` for the arguments."""

    def __init__(
        self,
        store: ObjectStore,
        levels: LevelSet,
        context: RunContext,
        *,
        target_seconds: float,
        recompute: Recompute | None,
        prefill_rate: float | None,
        decode_rates: Mapping[str, float],
        bandwidth: float | None,
        drop_tolerance: float,
        text_first: bool,
        settings: Mapping[str, Mapping[str, str]],
        on_layer: Callable[[int, DecodedLayer], None] | None,
    ) -> None:
        if recompute is not None and prefill_rate is None:
            raise InvalidParameter("recompute needs prefill_rate, the tokens per second it is expected to do")
        self._store = store
        self._levels = levels
        self._context = context
        self._recompute = recompute
        self._prefill = prefill_rate if recompute is not None else None
        self._decode = dict(decode_rates)
        self._prior = bandwidth
        self._settings = settings
        self._on_layer = on_layer
        self._controller = Controller(
            levels.offers(), target_seconds=target_seconds, drop_tolerance=drop_tolerance, text_first=text_first
        )
        self._meter = BandwidthMeter()
        self._changed = threading.Condition()
        self._transfers: list[_Transfer | None] = [None] * len(levels.chunks)
        self._failure: BaseException | None = None
        self._stopped = False
        self._received = 0
        self._start = 0.0

    def run(self) -> LoadedContext:
        """Fetch and decode everything."""
        table = self._levels.table
        everything = CacheRange(layers=(0, len(table.layers)), tokens=(0, table.tokens))
        cache = blank_cache(table, everything, self._context)
        self._start = time.monotonic()
        fetcher = threading.Thread(target=self._fetch_all, name="codeckit-levels", daemon=True)
        fetcher.start()
        ready = []
        try:
            for number in range(len(self._levels.chunks)):
                self._fill(number, cache)
                ready.append(self._elapsed())
                self._context.report("load", self._levels.chunks[number].stop, table.tokens, unit="tokens")
        finally:
            self._stop()
            fetcher.join()
        return LoadedContext(
            cache=cache,
            log=tuple(self._controller.log),
            ready_seconds=tuple(ready),
            received_bytes=self._received,
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _rates(self) -> Rates:
        bandwidth = self._meter.estimate(time.monotonic())
        return Rates(
            bandwidth=self._prior if bandwidth is None else bandwidth, decode=dict(self._decode), prefill=self._prefill
        )

    def _fetch_all(self) -> None:
        try:
            for number in range(len(self._levels.chunks)):
                self._wait_for_room(number)
                choice: Choice | None = self._controller.choose(number, self._elapsed(), self._rates())
                while choice is not None and not self._stopped:
                    choice = self._fetch(choice)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _wait_for_room(self, number: int) -> None:
        """Let the decoder catch up before ever more bytes wait for it."""
        with self._changed:
            while not self._stopped:
                arrivals = [transfer.arrival for transfer in self._transfers[:number] if transfer is not None]
                if sum(arrival.waiting_bytes for arrival in arrivals) <= _WAITING_BYTES:
                    return
                self._changed.wait(_TICK_SECONDS)

    def _fetch(self, choice: Choice) -> Choice | None:
        """Fetch what was chosen: None when it has come, or another choice when it was abandoned for that."""
        chunk = self._levels.chunks[choice.chunk]
        entry = chunk.text if choice.option == TEXT else chunk.levels[self._levels.labels.index(choice.option)]
        if entry is None:
            raise RuntimeError(f"text was chosen for chunk {choice.chunk}, which has none")
        arrival = Arrival(
            self._store.open(entry.name),
            size_bytes=entry.size_bytes,
            sha256=entry.sha256,
            # token ids are too small to measure anything with
            meter=None if choice.option == TEXT else self._meter,
            name=entry.name,
        )
        with self._changed:
            self._transfers[choice.chunk] = _Transfer(choice, arrival)
            self._changed.notify_all()
        other = None
        while not arrival.wait(_TICK_SECONDS):
            if self._stopped:
                arrival.abandon()
                break
            other = self._controller.reconsider(choice, arrival.received_bytes, self._elapsed(), self._rates())
            if other is not None and arrival.abandon():
                break
            other = None
        self._received += arrival.received_bytes
        return other

    def _stop(self) -> None:
        self._stopped = True
        with self._changed:
            for transfer in self._transfers:
                if transfer is not None:
                    transfer.arrival.close()

    def _fill(self, number: int, cache: Cache) -> None:
        """Wait for chunk ``number`` and put it into ``cache``."""
        transfer: _Transfer | None = None
        while True:
            transfer = self._next_transfer(number, transfer)
            try:
                if transfer.choice.option == TEXT:
                    self._fill_from_text(number, transfer.arrival, cache)
                else:
                    self._fill_from_level(number, transfer, cache)
            except Cancelled:
                if transfer.arrival.abandoned:
                    continue
                raise
            return

    def _next_transfer(self, number: int, tried: _Transfer | None) -> _Transfer:
        """The transfer of chunk ``number`` that follows ``tried``."""
        with self._changed:
            self._changed.wait_for(lambda: self._transfers[number] is not tried or self._failure is not None)
            transfer = self._transfers[number]
        if transfer is None or transfer is tried:
            raise self._failure or RuntimeError("the fetching thread ended early")
        return transfer

    def _fill_from_level(self, number: int, transfer: _Transfer, cache: Cache) -> None:
        chunk = self._levels.chunks[number]
        label = transfer.choice.option
        expected = chunk_table(cache.table, chunk.start, chunk.stop)
        started = time.monotonic()
        with ContainerReader(cast("Any", transfer.arrival), limits=self._context.limits) as reader:
            selection = Selection(settings=self._settings.get(label, {}))
            decoding = begin_stream(reader, selection, None, self._context)
            decoding.cache.require_all_tokens(transfer.arrival.name)
            if decoding.cache.table != expected:
                raise CorruptFile(f"{transfer.arrival.name} is a cache of another shape than the manifest says")
            for piece in decoding:
                for role, tensor in piece.parts.items():
                    place = slice(chunk.start + piece.start, chunk.start + piece.stop)
                    cache.parts[piece.layer, role].data[:, place] = tensor.data
                if self._on_layer is not None:
                    self._on_layer(number, piece)
            reader.verify()
        busy = time.monotonic() - started - transfer.arrival.waited_seconds
        if busy > 0:
            self._decode[label] = expected.size_bytes / busy
        self._tell_backlog(number)

    def _fill_from_text(self, number: int, arrival: Arrival, cache: Cache) -> None:
        chunk = self._levels.chunks[number]
        ids = np.frombuffer(arrival.read(), "<u4").astype(np.int64)
        if self._recompute is None:
            raise RuntimeError("text was chosen without a way to recompute")
        started = time.monotonic()
        arrays = self._recompute(ids, cache, chunk.start)
        for layer, row in enumerate(cache.table.layers):
            parts: dict[str, Tensor] = {}
            for part in row.parts:
                tensor = as_tensor(arrays[layer, part.role], f"recomputed layer {layer} {part.role}")
                if tensor.dtype != part.dtype:
                    tensor = from_float32(to_float32(tensor), part.dtype)
                target = cache.parts[layer, part.role].data[:, chunk.start : chunk.stop]
                if tensor.shape != target.shape:
                    raise InvalidParameter(
                        f"recompute gave {list(tensor.shape)} for layer {layer} {part.role}, "
                        f"expected {list(target.shape)}"
                    )
                target[...] = tensor.data
                parts[part.role] = tensor
            if self._on_layer is not None:
                self._on_layer(number, DecodedLayer(layer=layer, start=0, stop=len(ids), parts=parts))
        self._prefill = len(ids) / max(time.monotonic() - started, 1e-9)
        self._tell_backlog(number)

    def _tell_backlog(self, number: int) -> None:
        """How long the decoder will be busy with the chunks that have come after this one."""
        rates = self._rates()
        seconds = 0.0
        for later in self._transfers[number + 1 :]:
            if later is not None:
                seconds += self._controller.compute_seconds(later.choice.chunk, later.choice.option, rates)
        self._controller.computed(self._elapsed() + seconds)
