"""Which stages a cache goes through, with what settings, and which combinations have no meaning."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ....formats.errors import CorruptFile, InvalidParameter
from ...parameters import make_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....formats.canonical_json import JsonObject

__all__ = ["EXACT_BITS", "StagesParams"]

EXACT_BITS = 16
_NOT_STORED = ("profile",)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesParams:
    """The stages in their order, selection, precision, quantiser, residual, and their settings."""

    selection: Literal["none", "razor", "ems"] = field(
        default="none",
        metadata={
            "help": "razor: retrieval heads keep all tokens, others the first, the last and one for the rest; "
            "ems: the best tokens of each head, with the next ones merged into them"
        },
    )
    precision: Literal["uniform", "mikv"] = field(
        default="uniform", metadata={"help": "mikv: important tokens in important_bits, all others in bits"}
    )
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
    important_percent: int = field(default=20, metadata={"help": "mikv: share of important tokens"})
    important_bits: int = field(default=16, metadata={"help": "mikv: their bits, 1 to 8; 16 keeps them exactly"})
    kept_sinks: int = field(default=4, metadata={"help": "razor: first tokens that every head keeps"})
    local_percent: int = field(default=20, metadata={"help": "razor: last tokens that every head keeps"})
    induction_percent: int = field(default=14, metadata={"help": "razor: retrieval heads by induction score"})
    echo_percent: int = field(default=1, metadata={"help": "razor: retrieval heads by echo score"})
    budget_percent: int = field(default=30, metadata={"help": "ems: share of tokens that remain"})
    recent: int = field(default=32, metadata={"help": "ems: last tokens that remain as they are"})
    similarity_percent: int = field(default=60, metadata={"help": "ems: least cosine of keys that merge"})
    profile: str = field(
        default="auto",
        metadata={"help": "razor, mikv: a file made by `codec train kv-heads`, 'auto' (a shipped one) or 'none'"},
    )

    def __post_init__(self) -> None:
        for name, low, high in (
            ("bits", 1, 8),
            ("group", 2, 1 << 16),
            ("window", 0, 1 << 28),
            ("sinks", 0, 1 << 28),
            ("rank", 1, 64),
            ("outliers_permille", 1, 200),
            ("important_percent", 0, 100),
            ("kept_sinks", 0, 1 << 28),
            ("local_percent", 0, 100),
            ("induction_percent", 0, 100),
            ("echo_percent", 0, 100),
            ("budget_percent", 1, 100),
            ("recent", 0, 1 << 28),
            ("similarity_percent", 0, 100),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidParameter(f"{name}={value} is not in {low}..{high}")
        if self.important_bits != EXACT_BITS and not 1 <= self.important_bits <= 8:
            raise InvalidParameter(f"important_bits={self.important_bits} is not in 1..8 and not {EXACT_BITS}")
        if not self.profile:
            raise InvalidParameter("profile is empty; give a file, 'auto' or 'none'")
        if self.precision == "mikv" and self.quantiser == "none":
            raise InvalidParameter(
                "precision=mikv says how finely tokens are quantised, and quantiser=none keeps all of them exactly; "
                "choose quantiser=token or quantiser=kivi"
            )
        if self.precision == "mikv" and self.important_bits <= self.bits:
            raise InvalidParameter(
                f"precision=mikv with important_bits={self.important_bits} and bits={self.bits} would code important "
                "tokens no finer than others"
            )
        if self.quantiser == "none" and self.residual == "gear":
            raise InvalidParameter(
                "residual=gear adds what a quantiser has lost, and quantiser=none loses nothing; "
                "choose quantiser=kivi or quantiser=token"
            )

    @property
    def stages(self) -> str:
        """The stages that do something, joined by ``+``."""
        chosen = (self.selection, self.precision, self.quantiser, self.residual)
        return "+".join(stage for stage in chosen if stage not in ("none", "uniform")) or "none"

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
            read: StagesParams = make_parameters(cls, {"": {}}, "", value)
        except InvalidParameter as error:
            raise CorruptFile(f"header: {error}") from error
        if read.as_json() != value:
            raise CorruptFile("header: the table of stages has numbers written as text")
        return read


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "selection": ("none", "razor", "ems"),
    "precision": ("uniform", "mikv"),
    "quantiser": ("kivi", "token", "none"),
    "residual": ("none", "gear"),
}
