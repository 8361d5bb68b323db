"""What a KV cache is: a typed table of layers, the rotary embedding of its keys, and one array for every part.

A layer has *parts*. Attention layers have ``key`` and ``value``; latent-attention layers have ``latent`` and
``rope_key``. Every part is an array [heads, tokens, width].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...formats.errors import CorruptFile, InvalidParameter, UnsupportedInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ...formats.canonical_json import JsonObject
    from ...formats.tensors import Tensor

__all__ = ["FLOAT_DTYPES", "Cache", "CacheSlots", "CacheTable", "LayerTable", "PartTable", "Rotary"]

FLOAT_DTYPES = ("F32", "F16", "BF16")

Role = Literal["key", "value", "latent", "rope_key"]
_ROLES: tuple[tuple[Role, ...], ...] = (("key", "value"), ("latent", "rope_key"))
_ROTATED = ("key", "rope_key")
_MAX_LAYERS = 1 << 12
_MAX_WIDTH = 1 << 16
_MAX_TOKENS = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotary:
    """The rotary position embedding of keys.

    Channel pair ``i`` turns by ``position * inverse_frequencies[i]``, in float64. ``style`` is ``half`` (channel
    ``i`` pairs with ``i + n/2``, as in Llama) or ``interleaved`` (``2i`` with ``2i + 1``). Only the first
    ``2 * len(inverse_frequencies)`` channels turn.
    """

    inverse_frequencies: tuple[float, ...]
    style: Literal["half", "interleaved"] = "half"

    def __post_init__(self) -> None:
        if self.style not in ("half", "interleaved"):
            raise InvalidParameter(f"rope style {self.style!r} is not 'half' or 'interleaved'")
        if not self.inverse_frequencies or not np.isfinite(self.inverse_frequencies).all():
            raise InvalidParameter("rope needs at least one finite inverse frequency")

    @classmethod
    def from_theta(cls, theta: float, width: int, style: Literal["half", "interleaved"] = "half") -> Rotary:
        """The usual frequencies ``theta ** (-2i / width)``."""
        if not (np.isfinite(theta) and theta > 1) or width < 2 or width % 2:
            raise InvalidParameter(f"rope with theta {theta} over {width} channels is not possible")
        exponents = np.arange(0, width, 2, dtype=np.float64) / width
        return cls(inverse_frequencies=tuple((float(theta) ** -exponents).tolist()), style=style)

    def as_json(self) -> JsonObject:
        return {"frequencies": [value.hex() for value in self.inverse_frequencies], "style": self.style}

    @classmethod
    def from_json(cls, value: Any) -> Rotary:
        try:
            return cls(
                inverse_frequencies=tuple(float.fromhex(item) for item in value["frequencies"]),
                style=value["style"],
            )
        except (TypeError, KeyError, ValueError) as error:
            raise CorruptFile(f"cache table: the rope field is malformed: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTable:
    """One part of a layer: what it is, how many heads of what width, and in which floating-point type."""

    role: Role
    heads: int
    width: int
    dtype: str

    @property
    def channels(self) -> int:
        return self.heads * self.width

    @property
    def rotated(self) -> bool:
        """Whether the part stands after the rotary embedding."""
        return self.role in _ROTATED


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTable:
    """One layer. ``first_token`` > 0 where a sliding window has dropped the tokens before it."""

    parts: tuple[PartTable, ...]
    first_token: int = 0

    @property
    def channels(self) -> int:
        return sum(part.channels for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTable:
    """Everything about a cache but its numbers. ``stacked`` means it came as [layers, 2, tokens, heads, dim]."""

    layers: tuple[LayerTable, ...]
    tokens: int
    rotary: Rotary | None
    first_position: int = 0
    model: str = ""
    stacked: bool = False

    @property
    def elements(self) -> int:
        return sum((self.tokens - layer.first_token) * layer.channels for layer in self.layers)

    @property
    def size_bytes(self) -> int:
        return sum(
            (self.tokens - layer.first_token) * part.channels * (4 if part.dtype == "F32" else 2)
            for layer in self.layers
            for part in layer.parts
        )

    def as_json(self) -> JsonObject:
        rows: list[Any] = [
            [layer.first_token, [[p.role, p.heads, p.width, p.dtype] for p in layer.parts]] for layer in self.layers
        ]
        # equal neighbours are one row with a count, so that the header stays small
        table: list[Any] = []
        for row in rows:
            if table and table[-1][1:] == row:
                table[-1][0] += 1
            else:
                table.append([1, *row])
        return {
            "layers": table,
            "tokens": self.tokens,
            "rope": None if self.rotary is None else self.rotary.as_json(),
            "first_position": self.first_position,
            "model": self.model,
            "stacked": self.stacked,
        }

    @classmethod
    def from_json(cls, value: Any) -> CacheTable:
        """Read what :meth:`as_json` wrote; raises :class:`CorruptFile` for anything else."""
        try:
            layers: list[LayerTable] = []
            for count, first_token, parts in value["layers"]:
                layer = LayerTable(
                    first_token=first_token,
                    parts=tuple(PartTable(role=r, heads=h, width=w, dtype=d) for r, h, w, d in parts),
                )
                if not 1 <= count <= _MAX_LAYERS - len(layers):
                    raise CorruptFile(f"cache table: more than {_MAX_LAYERS} layers")
                layers += [layer] * count
            rope = value["rope"]
            if not isinstance(value["model"], str) or not isinstance(value["stacked"], bool):
                raise CorruptFile("cache table: its model name or layout is malformed")
            table = cls(
                layers=tuple(layers),
                tokens=value["tokens"],
                rotary=None if rope is None else Rotary.from_json(rope),
                first_position=value["first_position"],
                model=value["model"],
                stacked=value["stacked"],
            )
        except (TypeError, KeyError, ValueError) as error:
            raise CorruptFile(f"cache table: a field is missing or malformed: {error}") from error
        problem = _table_problem(table)
        if problem is not None:
            raise CorruptFile(f"cache table: {problem}")
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSlots:
    """Which tokens a cache holds after some were dropped or merged, head by head.

    One int32 array [heads, slots] per layer: ``positions`` where the tokens stand, ascending within a head, of a merged
    token that of the one it went into; ``counts`` how many tokens a slot weighs in attention, 1 for a token as it was
    and 0 where a head has no further slots and the arrays of the cache are zero. Attention adds ``log(count)`` to the
    logit of a slot. ``next_position`` is where the context goes on.
    """

    positions: tuple[NDArray[np.int32], ...]
    counts: tuple[NDArray[np.int32], ...]
    next_position: int

    @classmethod
    def blank(cls, table: CacheTable, next_position: int) -> CacheSlots:
        """No slot in use, for a cache of ``table``."""
        shapes = [(layer.parts[0].heads, table.tokens - layer.first_token) for layer in table.layers]
        return cls(
            positions=tuple(np.zeros(shape, np.int32) for shape in shapes),
            counts=tuple(np.zeros(shape, np.int32) for shape in shapes),
            next_position=next_position,
        )

    def bias(self, layer: int) -> NDArray[np.float32]:
        """What attention adds to the logits of a layer, float32 [heads, slots]: ``log(count)``."""
        with np.errstate(divide="ignore"):
            result: NDArray[np.float32] = np.log(self.counts[layer].astype(np.float32))
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A cache: its table, one :class:`Tensor` [heads, tokens, width] per (layer, role), and optional importance.

    ``attention_mass`` is float32 [layers, heads, tokens] or None: the mean attention probability that each token
    received from recent queries, for every key-value head. ``slots`` is None for a cache that holds every token; else
    the table's tokens are slots, and the cache must be used with :func:`codeckit.kv.slot_attention`.
    """

    table: CacheTable
    parts: Mapping[tuple[int, str], Tensor]
    attention_mass: tuple[NDArray[np.float32], ...] | None = field(default=None)
    slots: CacheSlots | None = field(default=None)

    def __post_init__(self) -> None:
        problem = _table_problem(self.table)
        if problem is not None:
            raise UnsupportedInput(f"cache: {problem}")

    def require_all_tokens(self, where: str) -> None:
        """Raise :class:`InvalidParameter` for a cache of chosen tokens, which ``where`` could only use wrongly."""
        if self.slots is not None:
            raise InvalidParameter(
                f"{where}: the cache holds chosen tokens of each head and needs kv.slot_attention; "
                "encode it without a selection stage"
            )

    def named_tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The cache under the names of safetensors files, with its metadata."""
        from .cache_tensors import named_tensors

        return named_tensors(self)

    def each(self) -> Iterator[tuple[int, PartTable, Tensor]]:
        """Every part in file order."""
        for number, layer in enumerate(self.table.layers):
            for part in layer.parts:
                yield number, part, self.parts[number, part.role]


def _table_problem(table: CacheTable) -> str | None:
    if not isinstance(table.tokens, int) or not 1 <= table.tokens <= _MAX_TOKENS:
        return f"it holds {table.tokens} tokens; 1 to {_MAX_TOKENS} can be stored"
    if not 1 <= len(table.layers) <= _MAX_LAYERS:
        return f"it holds {len(table.layers)} layers; 1 to {_MAX_LAYERS} can be stored"
    if not isinstance(table.first_position, int) or table.first_position < 0:
        return f"its first position is {table.first_position}"
    for number, layer in enumerate(table.layers):
        if tuple(part.role for part in layer.parts) not in _ROLES:
            return f"layer {number} has the parts {[part.role for part in layer.parts]}"
        if not isinstance(layer.first_token, int) or not 0 <= layer.first_token < table.tokens:
            return f"layer {number} begins at token {layer.first_token} of {table.tokens}"
        for part in layer.parts:
            sizes = (part.heads, part.width)
            if not all(isinstance(s, int) and 1 <= s <= _MAX_WIDTH for s in sizes):
                return f"layer {number} {part.role} has {part.heads} heads of width {part.width}"
            if part.dtype not in FLOAT_DTYPES:
                return f"layer {number} {part.role} is {part.dtype}; expected {', '.join(FLOAT_DTYPES)}"
            if table.rotary is not None and part.rotated:
                turning = 2 * len(table.rotary.inverse_frequencies)
                if turning > part.width:
                    return f"layer {number} {part.role} has {part.width} channels, rope turns {turning}"
    return None
