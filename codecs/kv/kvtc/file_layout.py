"""What a KVTC file says before its chunks: the cache, the tokens kept exactly, and the groups of components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....formats.errors import CorruptFile
from ..cache import CacheTable
from .allocation import BITS, GROUP_SIZES, Group
from .profile import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ....formats.canonical_json import JsonObject
    from .profile import KVTCProfile

__all__ = ["KVTCLayout"]

_MAX_GROUPS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class KVTCLayout:
    """``groups`` are those of keys and of values."""

    table: CacheTable
    sinks: int
    window: int
    chunk_tokens: int
    groups: tuple[tuple[Group, ...], tuple[Group, ...]]

    @property
    def transformed(self) -> tuple[int, int]:
        """The range of tokens that is transformed; the others are exact."""
        start = min(self.sinks, self.table.tokens)
        return start, max(start, self.table.tokens - self.window)

    def exact_tokens(self) -> NDArray[np.int64]:
        """The tokens kept exactly, ascending."""
        start, stop = self.transformed
        return np.concatenate([np.arange(start), np.arange(stop, self.table.tokens)])

    def spans(self) -> Iterator[tuple[int, int]]:
        """The chunks of transformed tokens."""
        first, last = self.transformed
        for start in range(first, last, self.chunk_tokens):
            yield start, min(start + self.chunk_tokens, last)

    def check_ranks(self, profile: KVTCProfile) -> None:
        """Raise :class:`CorruptFile` where the groups need more components than the profile has."""
        for role, groups, part in zip(ROLES, self.groups, profile.parts, strict=True):
            needed = sum(group.size for group in groups)
            if needed > part.basis.shape[1]:
                raise CorruptFile(f"header: {needed} components of {role}, the profile has {part.basis.shape[1]}")

    def as_json(self) -> JsonObject:
        return {
            "cache": self.table.as_json(),
            "chunk_tokens": self.chunk_tokens,
            "groups": [[[group.size, group.bits] for group in groups] for groups in self.groups],
            "sinks": self.sinks,
            "window": self.window,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> KVTCLayout:
        """Read what :meth:`as_json` wrote; raises :class:`CorruptFile` for anything else."""
        numbers = {}
        for name, low, high in (("chunk_tokens", 1, 1 << 20), ("sinks", 0, 1 << 28), ("window", 0, 1 << 28)):
            number = value.get(name)
            if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
                raise CorruptFile(f"header: {name} {number!r} is not in {low}..{high}")
            numbers[name] = number
        try:
            groups = [tuple(Group(size, bits) for size, bits in row) for row in value["groups"]]
        except (TypeError, KeyError, ValueError) as error:
            raise CorruptFile(f"header: the groups of components are malformed: {error}") from error
        right = len(groups) == len(ROLES) and all(
            len(row) <= _MAX_GROUPS and all(group.size in GROUP_SIZES and group.bits in BITS for group in row)
            for row in groups
        )
        if not right:
            raise CorruptFile("header: the groups of components are not those of keys and of values")
        return cls(table=CacheTable.from_json(value.get("cache")), groups=(groups[0], groups[1]), **numbers)
