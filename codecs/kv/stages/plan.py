"""Which stages a cache goes through, with what settings, and which combinations have no meaning."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ....formats.errors import CorruptFile, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....formats.canonical_json import JsonObject

__all__ = ["EXACT_BITS", "StagesParams"]

EXACT_BITS = 16
_NOT_STORED = ("profile",)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesParams:
    """The stages in their order, selection, precision, quantiser, residual, and their settings."""

    quantiser: Literal["kivi", "token", "none"] = field(
        default="kivi",
        metadata={"help": "kivi: keys per channel, values per token; token: both per token; none: tokens stay exact"},
    )
    residual: Literal["none", "gear"] = field(
        default="none", metadata={"help": "gear: outliers and a low-rank matrix on top of the quantiser"}
    )
    bits: int = field(default=2, metadata={"help": "bits of the quantiser's symbols before entropy coding (1 to 8)"})
    group: int = field(default=32, metadata={"help": "values that share a step and a least level"})
    window: int = field(default=128, metadata={"help": "last tokens kept exactly (KIVI's residual length)"})
    sinks: int = field(default=0, metadata={"help": "first tokens kept exactly"})
    rank: int = field(default=4, metadata={"help": "gear: rank of the residual for each head"})
    outliers_permille: int = field(default=20, metadata={"help": "gear: outliers in thousandths of the values"})

    def __post_init__(self) -> None:
        for name, low, high in (
            ("bits", 1, 8),
            ("group", 2, 1 << 16),
            ("window", 0, 1 << 28),
            ("sinks", 0, 1 << 28),
            ("rank", 1, 64),
            ("outliers_permille", 1, 200),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidParameter(f"{name}={value} is not in {low}..{high}")
        if self.quantiser == "none" and self.residual == "gear":
            raise InvalidParameter(
                "residual=gear adds what a quantiser has lost, and quantiser=none loses nothing; "
                "choose quantiser=kivi or quantiser=token"
            )

    @property
    def stages(self) -> str:
        """The stages that do something, joined by ``+``."""
        chosen = (self.quantiser, self.residual)
        return "+".join(stage for stage in chosen if stage != "none") or "none"

    def as_json(self) -> JsonObject:
        """What the header of a file stores."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_STORED}

    @classmethod
    def from_json(cls, value: Any) -> StagesParams:
        """Read what :meth:`as_json` wrote; raises :class:`CorruptFile` for anything else."""
        known: Mapping[str, Any] = cls.__dataclass_fields__
        if not isinstance(value, dict) or set(value) != {name for name in known if name not in _NOT_STORED}:
            raise CorruptFile("header: the table of stages lacks a field, or has one that is unknown")
        for name, choices in _CHOICES.items():
            if value[name] not in choices:
                raise CorruptFile(f"header: {name}={value[name]!r} is not one of {', '.join(choices)}")
        try:
            return cls(**value)
        except InvalidParameter as error:
            raise CorruptFile(f"header: {error}") from error


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "quantiser": ("kivi", "token", "none"),
    "residual": ("none", "gear"),
}
