"""What a file says of the heads of a layer before their tokens: which slots they have, and which are important."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....formats.errors import CorruptFile
from ..integer_fields import append_integers, read_integers
from .mikv import MAX_BALANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..cache import PartTable
    from .plan import StagesParams

    Integers = NDArray[np.int64]

__all__ = ["LayerHeads", "append_layer_heads", "has_balance", "read_layer_heads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerHeads:
    """Of every head of a layer its slots' ``positions`` and ``counts``, and the ``important`` ones of its slots.

    ``important`` is None without a precision stage. ``balance`` int64 [heads, width] are the key balancers of MiKV in
    quarter octaves; None where keys are not quantised per token or in no two precisions.
    """

    positions: tuple[Integers, ...]
    counts: tuple[Integers, ...]
    important: tuple[Integers, ...] | None
    balance: Integers | None

    @property
    def slots(self) -> list[int]:
        """The number of slots of each head."""
        return [own.size for own in self.positions]


def has_balance(plan: StagesParams, part: PartTable) -> bool:
    """Whether keys are balanced: by channel the quantiser needs no balance."""
    return plan.precision == "mikv" and plan.quantiser == "token" and part.rotated


def append_layer_heads(out: bytearray, heads: LayerHeads, plan: StagesParams) -> None:
    """Append what the stages of ``plan`` have decided; nothing where all tokens remain in one precision."""
    if plan.selection != "none":
        append_integers(out, np.array(heads.slots))
        append_integers(out, _gaps(heads.positions))
        append_integers(out, np.concatenate(heads.counts) - 1)
    if heads.important is not None:
        append_integers(out, np.array([own.size for own in heads.important]))
        append_integers(out, _gaps(heads.important))
    if heads.balance is not None:
        append_integers(out, heads.balance)


def read_layer_heads(
    data: bytes, plan: StagesParams, parts: Sequence[PartTable], tokens: int, slots: int, what: str
) -> tuple[LayerHeads, int]:
    """Invert :func:`append_layer_heads` for a layer of ``tokens`` tokens whose heads have at most ``slots`` slots.

    Raises :class:`CorruptFile` naming ``what``.
    """
    count = parts[0].heads
    position = 0
    if plan.selection == "none":
        positions = [np.arange(tokens)] * count
        counts = [np.ones(tokens, np.int64)] * count
    else:
        sizes, position = read_integers(data, position, count, f"{what}, slots")
        if int(sizes.min()) < 1 or int(sizes.max()) > min(slots, tokens):
            raise CorruptFile(f"{what}: a head has {sizes.min()} to {sizes.max()} slots, allowed are 1 to {slots}")
        positions, position = _read_ascending(data, position, sizes, [tokens] * count, f"{what}, positions")
        extra, position = read_integers(data, position, int(sizes.sum()), f"{what}, counts")
        if int(extra.min()) < 0 or int(extra.max()) >= tokens:
            raise CorruptFile(f"{what}: a slot stands for {extra.min() + 1} to {extra.max() + 1} of {tokens} tokens")
        counts = np.split(extra + 1, np.cumsum(sizes)[:-1])
    important = balance = None
    if plan.precision == "mikv":
        limits = [own.size for own in positions]
        sizes, position = read_integers(data, position, count, f"{what}, important tokens")
        if int(sizes.min()) < 0 or (sizes > limits).any():
            raise CorruptFile(f"{what}: more important tokens than tokens")
        important, position = _read_ascending(data, position, sizes, limits, f"{what}, important tokens")
    for part in parts:
        if has_balance(plan, part):
            found, position = read_integers(data, position, part.channels, f"{what}, balance")
            if int(np.abs(found).max()) > MAX_BALANCE:
                raise CorruptFile(f"{what}: a balancer is beyond {MAX_BALANCE}")
            balance = found.reshape(part.heads, part.width)
    heads = LayerHeads(
        positions=tuple(positions),
        counts=tuple(counts),
        important=None if important is None else tuple(important),
        balance=balance,
    )
    return heads, position


def _gaps(lists: Sequence[Integers]) -> Integers:
    """Differences less one within each ascending list, one list after the other."""
    return np.concatenate([np.diff(own, prepend=-1) - 1 for own in lists])


def _read_ascending(
    data: bytes, position: int, sizes: Integers, limits: Sequence[int], what: str
) -> tuple[list[Integers], int]:
    gaps, position = read_integers(data, position, int(sizes.sum()), what)
    if gaps.size and (int(gaps.min()) < 0 or int(gaps.max()) > max(limits)):
        raise CorruptFile(f"{what}: a gap is out of range")
    lists = [np.cumsum(own + 1) - 1 for own in np.split(gaps, np.cumsum(sizes)[:-1])]
    for own, limit in zip(lists, limits, strict=True):
        if own.size and int(own[-1]) >= limit:
            raise CorruptFile(f"{what}: number {own[-1]} of {limit}")
    return lists, position
