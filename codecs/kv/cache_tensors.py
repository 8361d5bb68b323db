"""Named tensors to caches and back: the key names of safetensors files and the layout of stacked arrays.

| name | shape | meaning |
| --- | --- | --- |
| ``layers.{i}.key``, ``layers.{i}.value`` | [kv_heads, tokens, head_dim] | an attention layer, keys after RoPE |
| ``layers.{i}.latent`` | [tokens, rank] | the compressed latent of an MLA layer |
| ``layers.{i}.rope_key`` | [tokens, dim] | the rotary key of an MLA layer |
| ``layers.{i}.attention_mass`` | [kv_heads, tokens] | optional importance, floating point |
| ``array`` | [layers, 2, tokens, kv_heads, head_dim] | a whole cache in one array instead |

Where a selection stage has dropped or merged tokens, decoding also writes ``layers.{i}.positions`` and
``layers.{i}.counts``, int32 [kv_heads, slots], and the metadata ``next_position``; see :class:`CacheSlots`. Such a
cache cannot be encoded again.

Metadata (strings): ``rope_theta`` (a number) or ``rope_inverse_frequencies`` (numbers joined by commas),
``rope_style`` (``half`` or ``interleaved``), ``first_position``, ``model``. Without rope metadata keys are taken as
they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter, UnsupportedInput
from ...formats.tensors import ARRAY, Tensor
from .cache import FLOAT_DTYPES, Cache, CacheTable, LayerTable, PartTable, Rotary
from .number_formats import to_float32

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.tensors import TensorSink, TensorSource

__all__ = ["cache_from_source", "cache_from_tensors", "metadata_of", "named_tensors", "write_cache"]

_SLOTS = re.compile(r"layers\.(\d{1,4})\.(positions|counts)")
_NAME = re.compile(r"layers\.(\d{1,4})\.(key|value|latent|rope_key|attention_mass)")
_KNOWN_METADATA = (
    "rope_theta",
    "rope_inverse_frequencies",
    "rope_style",
    "first_position",
    "model",
)


def cache_from_source(source: TensorSource) -> Cache:
    """The cache that ``source`` holds; see :func:`cache_from_tensors`."""
    return cache_from_tensors(source.tensors, source.metadata, name=source.name)


def cache_from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, name: str) -> Cache:
    """Recognise the layers by their names.

    Raises :class:`UnsupportedInput` naming the tensor that does not fit, :class:`InvalidParameter` for bad metadata.
    """
    if ARRAY in tensors and len(tensors) == 1:
        return _from_stacked(tensors[ARRAY], metadata, name)
    if any(_SLOTS.fullmatch(key) for key in tensors):
        raise UnsupportedInput(
            f"{name} holds chosen tokens of a cache, with positions and counts of their own; encode the whole cache"
        )
    by_layer: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _NAME.fullmatch(key)
        if match is None:
            raise UnsupportedInput(
                f"{name}: tensor {key!r} is not part of a cache; expected layers.N.key, .value, .latent, .rope_key "
                f"or .attention_mass, or one tensor called {ARRAY!r}"
            )
        by_layer.setdefault(int(match[1]), {})[match[2]] = tensor
    if not by_layer:
        raise UnsupportedInput(f"{name} is empty: it holds no layer")
    missing = [number for number in range(max(by_layer) + 1) if number not in by_layer]
    if missing:
        raise UnsupportedInput(f"{name}: layer {missing[0]} is missing, layer {max(by_layer)} is there")
    parts: dict[tuple[int, str], Tensor] = {}
    tables: list[tuple[tuple[PartTable, ...], int]] = []
    masses: list[np.ndarray[Any, np.dtype[np.float32]] | None] = []
    for number in range(len(by_layer)):
        layer = by_layer[number]
        mass = layer.pop("attention_mass", None)
        roles = ("key", "value") if "key" in layer else ("latent", "rope_key")
        if set(layer) != set(roles):
            raise UnsupportedInput(
                f"{name}: layer {number} has {sorted(layer)}; expected key and value, or latent and rope_key"
            )
        row, tokens = _layer_parts(layer, roles, number, name)
        tables.append((row, tokens))
        for role in roles:
            parts[number, role] = _three_axes(layer[role])
        masses.append(None if mass is None else _mass(mass, row[0].heads, tokens, number, name))
    longest = max(tokens for _, tokens in tables)
    layers = tuple(LayerTable(parts=row, first_token=longest - tokens) for row, tokens in tables)
    _check_token_counts(layers, longest, metadata, name)
    table = _table(layers, longest, metadata, name, stacked=False)
    return Cache(table=table, parts=parts, attention_mass=_all_or_none(masses, name))


def metadata_of(table: CacheTable) -> dict[str, str]:
    """The metadata that :func:`cache_from_tensors` reads back."""
    result = {"first_position": str(table.first_position)}
    if table.model:
        result["model"] = table.model
    if table.rotary is not None:
        result["rope_inverse_frequencies"] = ",".join(map(repr, table.rotary.inverse_frequencies))
        result["rope_style"] = table.rotary.style
    if any(layer.first_token for layer in table.layers):
        result["sliding_window"] = "true"
    return result


def named_tensors(cache: Cache) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every part under its documented name, and the metadata; a stacked cache is one array again."""
    tensors: dict[str, Tensor] = {}
    metadata = metadata_of(cache.table)
    if cache.slots is not None:
        metadata["next_position"] = str(cache.slots.next_position)
        for field, arrays in (("positions", cache.slots.positions), ("counts", cache.slots.counts)):
            for number, array in enumerate(arrays):
                tensors[f"layers.{number}.{field}"] = Tensor(dtype="I32", data=array)
    if cache.table.stacked:
        layers = range(len(cache.table.layers))
        # [layers, 2, tokens, heads, dim]
        data = np.stack(
            [np.stack([cache.parts[n, role].data.swapaxes(0, 1) for role in ("key", "value")]) for n in layers]
        )
        tensors[ARRAY] = Tensor(dtype=cache.parts[0, "key"].dtype, data=data)
        return tensors, metadata
    for number, part, tensor in cache.each():
        data = tensor.data[0] if part.role in ("latent", "rope_key") else tensor.data
        tensors[f"layers.{number}.{part.role}"] = Tensor(dtype=tensor.dtype, data=data)
    for number, mass in enumerate(cache.attention_mass or ()):
        tensors[f"layers.{number}.attention_mass"] = Tensor(dtype="F32", data=mass)
    return tensors, metadata


def write_cache(cache: Cache, sink: TensorSink) -> None:
    """Put everything of ``cache`` into ``sink``."""
    tensors, metadata = named_tensors(cache)
    for name, tensor in tensors.items():
        sink.put(name, tensor)
    sink.metadata.update(metadata)


def _from_stacked(tensor: Tensor, metadata: Mapping[str, str], name: str) -> Cache:
    shape = tensor.shape
    if len(shape) != 5 or shape[1] != 2:
        raise UnsupportedInput(
            f"{name} has the shape {list(shape)}; a cache in one array is [layers, 2, tokens, kv_heads, head_dim]"
        )
    if 0 in shape:
        raise UnsupportedInput(f"{name} is empty: its shape is {list(shape)}")
    _check_dtype(tensor, name)
    layers, _, tokens, heads, width = shape
    row = tuple(PartTable(role=role, heads=heads, width=width, dtype=tensor.dtype) for role in ("key", "value"))
    parts: dict[tuple[int, str], Tensor] = {
        (number, part.role): Tensor(dtype=tensor.dtype, data=tensor.data[number, side].swapaxes(0, 1))
        for number in range(layers)
        for side, part in enumerate(row)
    }
    table = _table((LayerTable(parts=row),) * layers, tokens, metadata, name, stacked=True)
    return Cache(table=table, parts=parts)


def _layer_parts(
    layer: Mapping[str, Tensor], roles: tuple[str, ...], number: int, name: str
) -> tuple[tuple[PartTable, ...], int]:
    row: list[PartTable] = []
    counts: list[int] = []
    for role in roles:
        tensor = layer[role]
        where = f"{name}: layers.{number}.{role}"
        _check_dtype(tensor, where)
        axes = 2 if role in ("latent", "rope_key") else 3
        if len(tensor.shape) != axes:
            expected = "[tokens, width]" if axes == 2 else "[kv_heads, tokens, head_dim]"
            raise UnsupportedInput(f"{where} has the shape {list(tensor.shape)}, expected {expected}")
        if 0 in tensor.shape:
            raise UnsupportedInput(f"{where} is empty: its shape is {list(tensor.shape)}")
        heads = 1 if axes == 2 else tensor.shape[0]
        row.append(
            PartTable(role=role, heads=heads, width=tensor.shape[-1], dtype=tensor.dtype)  # type: ignore[arg-type]
        )
        counts.append(tensor.shape[-2])
    if counts[0] != counts[1]:
        raise UnsupportedInput(
            f"{name}: layer {number} has {counts[0]} tokens of {roles[0]} and {counts[1]} of {roles[1]}; "
            "they must agree"
        )
    return tuple(row), counts[0]


def _check_dtype(tensor: Tensor, where: str) -> None:
    if tensor.dtype not in FLOAT_DTYPES:
        raise UnsupportedInput(
            f"{where} is {tensor.dtype}; caches of {', '.join(FLOAT_DTYPES)} can be stored, convert it first"
        )


def _three_axes(tensor: Tensor) -> Tensor:
    if tensor.data.ndim == 3:
        return tensor
    return Tensor(dtype=tensor.dtype, data=tensor.data[None])


def _mass(tensor: Tensor, heads: int, tokens: int, number: int, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    where = f"{name}: layers.{number}.attention_mass"
    if tensor.dtype not in FLOAT_DTYPES or tensor.shape != (heads, tokens):
        raise UnsupportedInput(
            f"{where} is {tensor.dtype} {list(tensor.shape)}, expected floating point [{heads}, {tokens}]"
        )
    values = to_float32(tensor)
    if not np.isfinite(values).all() or (values < 0).any():
        raise InvalidParameter(f"{where} holds negative, infinite or undefined values")
    return values


def _all_or_none(masses: list[Any], name: str) -> tuple[Any, ...] | None:
    given = [mass is not None for mass in masses]
    if not any(given):
        return None
    if not all(given):
        raise UnsupportedInput(
            f"{name}: layer {given.index(False)} has no attention_mass while others have; give all or none"
        )
    return tuple(masses)


def _check_token_counts(layers: tuple[LayerTable, ...], longest: int, metadata: Mapping[str, str], name: str) -> None:
    shorter = [number for number, layer in enumerate(layers) if layer.first_token]
    if shorter and metadata.get("sliding_window") != "true":
        number = shorter[0]
        raise UnsupportedInput(
            f"{name}: layer {number} has {longest - layers[number].first_token} tokens and another layer {longest}; "
            "they must agree, unless the metadata says sliding_window=true"
        )


def _table(
    layers: tuple[LayerTable, ...],
    tokens: int,
    metadata: Mapping[str, str],
    name: str,
    *,
    stacked: bool,
) -> CacheTable:
    unknown = sorted(key for key in metadata if key.startswith("rope_") and key not in _KNOWN_METADATA)
    if unknown:
        raise UnsupportedInput(f"{name}: the metadata {unknown[0]!r} is unknown; known: {', '.join(_KNOWN_METADATA)}")
    try:
        first_position = int(metadata.get("first_position", "0"))
    except ValueError as error:
        raise InvalidParameter(f"{name}: first_position is not a whole number") from error
    widths = {part.width for layer in layers for part in layer.parts if part.rotated}
    return CacheTable(
        layers=layers,
        tokens=tokens,
        rotary=_rotary(metadata, min(widths), name),
        first_position=first_position,
        model=metadata.get("model", ""),
        stacked=stacked,
    )


def _rotary(metadata: Mapping[str, str], width: int, name: str) -> Rotary | None:
    style = metadata.get("rope_style", "half")
    try:
        if "rope_inverse_frequencies" in metadata:
            values = [float(item) for item in metadata["rope_inverse_frequencies"].split(",")]
            return Rotary(inverse_frequencies=tuple(values), style=style)  # type: ignore[arg-type]
        if "rope_theta" in metadata:
            return Rotary.from_theta(float(metadata["rope_theta"]), width, style)  # type: ignore[arg-type]
    except ValueError as error:
        raise InvalidParameter(f"{name}: the rope metadata is malformed: {error}") from error
    return None
