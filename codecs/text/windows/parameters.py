"""What a user chooses: the kind of tokens, their size, and when the byte model forgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ....formats.errors import InvalidParameter

__all__ = ["Mode", "WindowsParams"]

Mode = Literal["windows", "dictionary", "ac", "static", "gzip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsParams:
    """Settings of the windows codec and of ``WindowTokenizer``.

    Raises :class:`InvalidParameter` for values out of range and for settings that mean nothing in the chosen mode.
    """

    mode: Mode = field(
        default="windows",
        metadata={
            "help": "windows: equal-info windows; dictionary: 65,535 strings; "
            "ac, static, gzip: the controls of the paper (model, unigram, deflate)"
        },
    )
    bits: Literal[16, 24, 32, 64, 128] = field(default=16, metadata={"help": "windows: bits per window"})
    reset_every: int = field(
        default=1, metadata={"help": "windows: the byte model is reset at every k-th window; 0 for never"}
    )
    delayed: bool = field(
        default=False, metadata={"help": "windows: end a window whatever the next byte is (larger files)"}
    )
    parse: Literal["fewest", "longest"] | None = field(
        default=None,
        metadata={
            "help": "dictionary, windows: fewest tokens (slower), or each as long as can be; "
            "the default is fewest for the dictionary, longest for windows"
        },
    )
    block_kib: int = field(
        default=256, metadata={"help": "block size in KiB; blocks are coded apart, for random access and all cores"}
    )
    model: str | None = field(
        default=None, metadata={"help": "file of another byte model or dictionary; decoding then needs it too"}
    )

    def __post_init__(self) -> None:
        if not 1 <= self.block_kib <= 16384:
            raise InvalidParameter(f"block_kib={self.block_kib} is not within 1..16384")
        if not 0 <= self.reset_every <= 1 << 20:
            raise InvalidParameter(f"reset_every={self.reset_every} is not within 0..1048576")
        if self.mode != "windows":
            for name, default in (("bits", 16), ("reset_every", 1), ("delayed", False)):
                if getattr(self, name) != default:
                    raise InvalidParameter(f"{name} is a setting of mode=windows, not of mode={self.mode}")
        if self.mode not in ("dictionary", "windows") and self.parse is not None:
            raise InvalidParameter(f"parse is a setting of mode=dictionary and mode=windows, not of mode={self.mode}")
        if self.mode == "windows" and self.takes_fewest and (self.delayed or self.reset_every != 1):
            raise InvalidParameter("parse=fewest needs reset_every=1 and windows that are not delayed")
        if self.mode == "gzip" and self.model is not None:
            raise InvalidParameter("mode=gzip uses no model")

    @property
    def takes_fewest(self) -> bool:
        """Whether the encoder looks for the fewest tokens, by choice or by default."""
        return self.parse == "fewest" or (self.parse is None and self.mode == "dictionary")

    @property
    def is_window_dictionary(self) -> bool:
        """Windows of 16 bits with full reset are strings of a dictionary, each coded by its number."""
        return self.mode == "windows" and self.bits == 16 and self.reset_every == 1 and not self.delayed
