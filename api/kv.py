"""``codeckit.kv``: KV caches from models and arrays to files and back.

::

    cache = codeckit.kv.from_transformers(past_key_values, model=model)
    codeckit.encode(cache, "context.ck", codec="kv")
    restored = codeckit.kv.decode("context.ck")
    past_key_values = codeckit.kv.to_transformers(restored, model)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .codecs.kv.cache import Cache, CacheSlots, CacheTable, LayerTable, PartTable, Rotary
from .codecs.kv.slot_attention import slot_attention
from .codecs.protocol import Selection
from .codecs.registry import find_codec
from .codecs.run_context import RunContext
from .formats.errors import InvalidParameter
from .formats.limits import DEFAULT_LIMITS
from .formats.object_store import is_url, open_ranges
from .formats.reader import ContainerReader, ContainerSource
from .kv_levels import Level, LevelReader, open_levels, write_levels
from .kv_stream import LayerStream, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Cache",
    "CacheSlots",
    "CacheTable",
    "LayerStream",
    "LayerTable",
    "Level",
    "LevelReader",
    "PartTable",
    "Rotary",
    "decode",
    "from_arrays",
    "from_transformers",
    "open_levels",
    "slot_attention",
    "stream",
    "to_arrays",
    "to_transformers",
    "write_levels",
]


def from_arrays(
    keys: Any,
    values: Any,
    *,
    rotary: Rotary | None = None,
    first_position: int = 0,
    model: str = "",
    attention_mass: Any = None,
) -> Cache:
    """A cache from ``keys`` and ``values`` [layers, kv_heads, tokens, head_dim] (NumPy or torch), keys after RoPE.

    ``attention_mass`` [layers, kv_heads, tokens] says how much each token was attended to lately.

    Raises :class:`UnsupportedInput` or :class:`InvalidParameter` for shapes that disagree.
    """
    from .codecs.kv.cache_tensors import cache_from_tensors
    from .formats.tensors import as_tensor

    tensors = {}
    for number, (key, value) in enumerate(zip(keys, values, strict=True)):
        tensors[f"layers.{number}.key"] = as_tensor(key, f"layers.{number}.key")
        tensors[f"layers.{number}.value"] = as_tensor(value, f"layers.{number}.value")
        if attention_mass is not None:
            name = f"layers.{number}.attention_mass"
            tensors[name] = as_tensor(attention_mass[number], name)
    cache = cache_from_tensors(tensors, {"first_position": str(first_position)}, name="arrays")
    return replace(cache, table=replace(cache.table, rotary=rotary, model=model))


def from_transformers(
    cache: Any, *, model: Any = None, name: str = "", first_position: int = 0, attention_mass: Any = None
) -> Cache:
    """A cache from a ``transformers`` cache object (5.x: ``cache.layers[i].keys`` and ``.values``), batch of one.

    With ``model`` its rotary embedding is recorded, which makes keys cheaper to code and movable.

    Raises :class:`UnsupportedInput` for batches and for layers without keys and values.
    """
    from .codecs.kv.cache_tensors import cache_from_source
    from .codecs.kv.training import model_rotary
    from .formats.tensors import open_source

    with open_source(cache, limits=DEFAULT_LIMITS) as source:
        source.metadata["first_position"] = str(first_position)
        found = cache_from_source(source)
    table = replace(found.table, rotary=None if model is None else model_rotary(model), model=name)
    mass = None if attention_mass is None else tuple(np.asarray(m, np.float32) for m in attention_mass)
    return replace(found, table=table, attention_mass=mass)


def decode(
    source: ContainerSource,
    *,
    layers: tuple[int, int | None] = (0, None),
    tokens: tuple[int, int | None] = (0, None),
    positions: NDArray[np.int64] | Sequence[int] | None = None,
    settings: Mapping[str, str] | None = None,
    context: RunContext | None = None,
) -> Cache:
    """Decode a cache file, or a range of it, reading only the chunks it needs.

    ``source`` may also be a URL that fsspec knows; over HTTP, byte ranges are requested. :func:`stream` decodes while
    the bytes arrive instead.

    ``positions``, one per decoded token, places the keys there instead of where the cache was made: a cached passage
    can stand anywhere in another context. ``settings`` are decode settings, such as
    ``{"profile": "model.safetensors"}``.

    Raises :class:`CorruptFile` and its kinds, :class:`InvalidParameter`, :class:`LimitExceeded`.
    """
    run = context or RunContext()
    ranges = {axis: pair for axis, pair in (("layers", layers), ("tokens", tokens)) if pair != (0, None)}
    with ExitStack() as cleanup:
        if isinstance(source, str) and is_url(source):
            source = cleanup.enter_context(open_ranges(source))
        container = cleanup.enter_context(ContainerReader(source, limits=run.limits))
        codec: Any = find_codec(container.header.codec)
        if not hasattr(codec, "decode_cache"):
            raise InvalidParameter(f"the file is of codec {codec.id!r}, which holds no KV cache")
        container.require_bitstream(newest=codec.bitstream_version)
        places = {} if positions is None else {"positions": np.asarray(positions, np.int64)}
        cache: Cache = codec.decode_cache(
            container,
            context=run,
            selection=Selection(ranges=ranges, settings=settings or {}),
            **places,
        )
        if not ranges:
            container.verify()
        return cache


def to_arrays(cache: Cache) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keys and values as float32 [layers, kv_heads, tokens, head_dim]; every layer must have the same shape.

    Of a cache with ``slots`` they are [layers, kv_heads, slots, head_dim], zero where ``slots.counts`` is 0.
    """
    from .codecs.kv.number_formats import to_float32

    numbers = range(len(cache.table.layers))
    try:
        keys = np.stack([to_float32(cache.parts[n, "key"]) for n in numbers])
        values = np.stack([to_float32(cache.parts[n, "value"]) for n in numbers])
    except (KeyError, ValueError) as error:
        raise InvalidParameter("the layers differ in kind or shape; take them from cache.parts one by one") from error
    return keys, values


def to_transformers(cache: Cache, model: Any) -> Any:
    """A ``DynamicCache`` for ``model``, on its device and in the cache's own type.

    A cache with ``slots`` holds chosen tokens, padded to the longest head: run the model within
    ``slot_attention(model, cache.slots)``, or it attends to padding.
    """
    import torch
    from transformers import DynamicCache

    from .formats.tensors import natural_value

    result = DynamicCache(config=model.config)
    for number in range(len(cache.table.layers)):
        pair = [
            torch.as_tensor(natural_value(cache.parts[number, role])).to(model.device)[None]
            for role in ("key", "value")
        ]
        result.update(pair[0], pair[1], number)
    return result
