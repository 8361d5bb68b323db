"""Storing a cache at several levels, and loading it in time: ``codeckit.kv.write_levels`` and ``open_levels``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .codecs.kv.level_set import ChunkEntry, LevelSet, ObjectEntry, token_slice
from .codecs.run_context import RunContext
from .encoding import encode
from .formats.errors import InvalidParameter
from .formats.object_store import ObjectStore, check_name, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from .codecs.kv.cache import Cache
    from .codecs.kv.streaming import DecodedLayer
    from .kv_loading import LoadedContext, Recompute

__all__ = ["Level", "LevelReader", "open_levels", "write_levels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One way to encode every chunk: a codec and its settings, under a label for the log."""

    label: str
    codec: str = "kv"
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_levels(
    cache: Cache,
    target: str | ObjectStore,
    *,
    name: str,
    levels: Sequence[Level],
    chunk_tokens: int = 512,
    token_ids: Sequence[int] | None = None,
    context: RunContext | None = None,
    options: Mapping[str, Any] | None = None,
) -> LevelSet:
    """Encode ``cache`` in chunks at each of ``levels``, from the best to the smallest, and store it at ``target``.

    ``target`` is a URL for fsspec or Redis, or a store. The manifest is called ``NAME.json`` and is written last;
    every chunk of every level is a cache file of its own, ``NAME.NUMBER.LABEL.ck``. With ``token_ids``, one per token
    of the cache, each chunk can also be recomputed from its text (``NAME.NUMBER.ids``).

    Raises :class:`InvalidParameter`, :class:`UnsupportedInput`, :class:`OutputFailure`.
    """
    check_name(f"{name}.json")
    if chunk_tokens < 1:
        raise InvalidParameter(f"chunk_tokens={chunk_tokens} is not at least 1")
    if token_ids is not None and len(token_ids) != cache.table.tokens:
        raise InvalidParameter(f"{len(token_ids)} token ids for a cache of {cache.table.tokens} tokens")
    store = open_store(target, **(options or {})) if isinstance(target, str) else target
    chunks = []
    for number, start in enumerate(range(0, cache.table.tokens, chunk_tokens)):
        stop = min(start + chunk_tokens, cache.table.tokens)
        piece = token_slice(cache, start, stop)
        entries = []
        for level in levels:
            data = encode(piece, codec=level.codec, settings=level.settings, context=context)
            entries.append(_put(store, f"{name}.{number:05}.{level.label}.ck", data))
        text = None
        if token_ids is not None:
            ids = np.asarray(token_ids[start:stop], "<u4").tobytes()
            text = _put(store, f"{name}.{number:05}.ids", ids)
        chunks.append(ChunkEntry(start=start, stop=stop, levels=tuple(entries), text=text))
    found = LevelSet(table=cache.table, labels=tuple(level.label for level in levels), chunks=tuple(chunks))
    data = found.to_bytes()
    LevelSet.from_bytes(data, (context or RunContext()).limits)  # what cannot be read back is not written
    store.put(f"{name}.json", data)
    if isinstance(target, str):
        store.close()
    return found


def open_levels(
    source: str | ObjectStore,
    *,
    name: str,
    context: RunContext | None = None,
    options: Mapping[str, Any] | None = None,
) -> LevelReader:
    """Read the manifest ``NAME.json`` at ``source``, a URL for fsspec or Redis, or a store.

    Raises :class:`CorruptFile` and its kinds, :class:`LimitExceeded`, :class:`InvalidParameter` where there is none,
    :class:`ExternalFailure` when the transfer fails.
    """
    run = context or RunContext()
    store = open_store(source, **(options or {})) if isinstance(source, str) else source
    try:
        data = store.read(f"{name}.json", run.limits.max_header_bytes)
        levels = LevelSet.from_bytes(data, run.limits)
    except BaseException:
        if isinstance(source, str):
            store.close()
        raise
    return LevelReader(store, levels, run, owned=isinstance(source, str))


class LevelReader:
    """A stored cache whose chunks can be had at several levels; a context manager."""

    def __init__(self, store: ObjectStore, levels: LevelSet, context: RunContext, *, owned: bool) -> None:
        self.levels = levels
        self._store = store
        self._context = context
        self._owned = owned

    def load(
        self,
        *,
        target_seconds: float,
        recompute: Recompute | None = None,
        prefill_rate: float | None = None,
        decode_rates: Mapping[str, float] | None = None,
        bandwidth: float | None = None,
        drop_tolerance: float = 10.0,
        text_first: bool = True,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        on_layer: Callable[[int, DecodedLayer], None] | None = None,
    ) -> LoadedContext:
        """Fetch and decode the whole cache within ``target_seconds``, at the best levels that allows.

        Args:
            target_seconds: counted from this call.
            recompute: called with ``(token_ids, cache, start)`` to run the model on int64 ``token_ids`` [tokens] after
                the first ``start`` tokens of ``cache``; returns the arrays [heads, tokens, width] by layer and role.
                Without it text is never chosen.
            prefill_rate: tokens per second that ``recompute`` is expected to do; measured from its first call on.
            decode_rates: decoded bytes per second expected by label; measured from the first chunk on.
            bandwidth: bytes per second expected; measured as soon as bytes come. Without it the first chunk is
                fetched at the middle level.
            drop_tolerance: the fall of bandwidth that must not break the target; see
                :class:`codeckit.codecs.kv.controller.Controller`.
            text_first: take text wherever it is in time, as the paper does; otherwise as the last resort.
            settings: decode settings by label, such as ``{"q60": {"profile": "model.safetensors"}}``.
            on_layer: called in this thread with the chunk's number and every :class:`DecodedLayer` as it comes
                (tokens counted from the start of the chunk). A chunk that is abandoned for another level begins anew.

        The result has the cache, the log of choices, and when each chunk was ready. Raises :class:`CorruptFile` and
        its kinds, :class:`ExternalFailure`, :class:`LimitExceeded`, :class:`InvalidParameter`. A target that cannot be
        met is no error: the fastest way is taken, and the log says so.
        """
        from .kv_loading import Loader

        loader = Loader(
            self._store,
            self.levels,
            self._context,
            target_seconds=target_seconds,
            recompute=recompute,
            prefill_rate=prefill_rate,
            decode_rates=decode_rates or {},
            bandwidth=bandwidth,
            drop_tolerance=drop_tolerance,
            text_first=text_first,
            settings=settings or {},
            on_layer=on_layer,
        )
        return loader.run()

    def close(self) -> None:
        """Give connections back."""
        if self._owned:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _put(store: ObjectStore, name: str, data: bytes) -> ObjectEntry:
    entry = ObjectEntry(name=check_name(name), size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    store.put(name, data)
    return entry
