"""From a cache to the payload of each layer: select, assign precision, quantise, write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ....formats.errors import InvalidParameter, UnsupportedInput
from ..number_formats import check_finite, to_float32
from .ems import budget_slots, select_merged
from .head_profile import find_head_profile
from .layer_bytes import encode_layer
from .layer_heads import LayerHeads, append_layer_heads, has_balance
from .mikv import important_tokens, key_balance
from .razor import local_slots, retrieval_heads, select_local
from .selection import HeadSlots, all_tokens
from .token_layout import head_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import Cache, CacheTable
    from .head_profile import HeadProfile
    from .plan import StagesParams

    Floats = NDArray[np.float32]

__all__ = ["LayerEncoder"]


class LayerEncoder:
    """Encodes the layers of one cache. ``slots`` is the most that any head keeps.

    Raises :class:`InvalidParameter` where a stage needs what is not given, :class:`UnsupportedInput` where it has no
    meaning for this cache.
    """

    def __init__(self, cache: Cache, plan: StagesParams) -> None:
        self._cache = cache
        self._plan = plan
        self._profile: HeadProfile | None = None
        if plan.selection == "razor" or plan.precision == "mikv":
            self._profile = find_head_profile(plan.profile, cache.table)
        self._retrieval = self._retrieval_heads()
        self._check()
        self.slots = self._most_slots(cache.table)

    def encode(self, layer: int) -> bytes:
        """The payload of a layer; raises :class:`InvalidParameter` naming a value that is not finite."""
        row = self._cache.table.layers[layer]
        values = []
        for part in row.parts:
            floats = to_float32(self._cache.parts[layer, part.role])
            check_finite(floats, f"layer {layer} {part.role}")
            values.append(floats)
        mass = None if self._cache.attention_mass is None else self._cache.attention_mass[layer]
        chosen = [
            self._select(layer, head, tuple(floats[head] for floats in values), None if mass is None else mass[head])
            for head in range(row.parts[0].heads)
        ]
        parts = [[own.parts[number] for own in chosen] for number in range(len(row.parts))]
        heads = self._heads(layer, chosen, parts)
        important = heads.important or (None,) * len(chosen)
        layouts = [head_layout(self._plan, n, own) for n, own in zip(heads.slots, important, strict=True)]
        out = bytearray()
        append_layer_heads(out, heads, self._plan)
        return bytes(out) + encode_layer(self._plan, row.parts, parts, layouts, heads.balance)

    def _select(self, layer: int, head: int, parts: tuple[Floats, ...], mass: Floats | None) -> HeadSlots:
        plan = self._plan
        if self._retrieval is not None and not self._retrieval[layer, head]:
            return select_local(parts, mass, sinks=plan.kept_sinks, local_percent=plan.local_percent)
        if plan.selection == "ems" and mass is not None:
            return select_merged(
                parts,
                mass,
                recent=plan.recent,
                budget_percent=plan.budget_percent,
                similarity_percent=plan.similarity_percent,
            )
        return all_tokens(parts, mass)

    def _heads(self, layer: int, chosen: list[HeadSlots], parts: list[list[Floats]]) -> LayerHeads:
        important = balance = None
        if self._plan.precision == "mikv":
            important = tuple(
                important_tokens(own.mass, self._plan.important_percent) for own in chosen if own.mass is not None
            )
        for part, heads in zip(self._cache.table.layers[layer].parts, parts, strict=True):
            if has_balance(self._plan, part):
                balance = key_balance(heads, None if self._profile is None else self._profile.query_peaks[layer])
        return LayerHeads(
            positions=tuple(own.positions for own in chosen),
            counts=tuple(own.counts for own in chosen),
            important=important,
            balance=balance,
        )

    def _retrieval_heads(self) -> NDArray[np.bool_] | None:
        plan = self._plan
        if plan.selection != "razor":
            return None
        if self._profile is None:
            model = self._cache.table.model
            raise InvalidParameter(
                f"selection=razor must know which heads retrieve, and no profile for the model {model or 'unknown'!r} "
                "is shipped; make one with `codec train kv-heads` and pass profile=FILE"
            )
        return retrieval_heads(
            self._profile.induction,
            self._profile.echo,
            induction_percent=plan.induction_percent,
            echo_percent=plan.echo_percent,
        )

    def _check(self) -> None:
        plan, cache = self._plan, self._cache
        needs = [name for name in ("ems", "mikv") if name in (plan.selection, plan.precision)]
        if needs and cache.attention_mass is None:
            stage = "selection=ems" if needs[0] == "ems" else "precision=mikv"
            raise InvalidParameter(
                f"{stage} goes by attention mass, and the cache has none; add layers.N.attention_mass"
            )
        if plan.selection == "none":
            return
        for number, layer in enumerate(cache.table.layers):
            if layer.parts[0].role != "key":
                raise UnsupportedInput(
                    f"layer {number} holds {layer.parts[0].role} and {layer.parts[1].role}; "
                    f"selection={plan.selection} chooses tokens of keys and values"
                )

    def _most_slots(self, table: CacheTable) -> int:
        plan = self._plan
        most = []
        for number, layer in enumerate(table.layers):
            tokens = table.tokens - layer.first_token
            if plan.selection == "ems":
                most.append(budget_slots(tokens, recent=plan.recent, budget_percent=plan.budget_percent))
            elif self._retrieval is not None and not self._retrieval[number].any():
                most.append(local_slots(tokens, sinks=plan.kept_sinks, local_percent=plan.local_percent))
            else:
                most.append(tokens)
        return max(most)
