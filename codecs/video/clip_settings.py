"""Settings that codecs fitted to a clip share: which pictures they see, and how long and precisely they fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from ...formats.errors import InvalidParameter
from ..parameters import Range, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FitParameters",
    "SizeSettings",
    "check_counts",
    "check_numbers",
    "encoded_size",
    "setting_help",
    "stride_list",
]


def setting_help(text: str) -> dict[str, str]:
    """The metadata of a parameter's field."""
    return {"help": text}


class SizeSettings(Protocol):
    """The settings that decide the size of the encoded pictures."""

    @property
    def size(self) -> Size | None: ...

    @property
    def max_pixels(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FitParameters:
    """The clip's part and size, and the length of the fit."""

    size: Size | None = field(
        default=None,
        metadata=setting_help("encode at this size, cropped to its proportions and resampled; none keeps the clip's"),
    )
    max_pixels: int | None = field(
        default=None,
        metadata=setting_help("without size: shrink larger pictures, proportions kept, to at most so many pixels"),
    )
    frames: Range = field(default=Range(0, None), metadata=setting_help("encode only these frames"))
    audio: Literal["keep", "drop"] = field(
        default="keep", metadata=setting_help("carry audio tracks through; their bytes count in the rate")
    )
    epochs: int = field(default=300, metadata=setting_help("passes over the clip"))
    batch: int = field(default=2, metadata=setting_help("frames per step"))
    lr: float = field(default=1e-3, metadata=setting_help("peak learning rate of Adam"))
    seed: int = field(default=1, metadata=setting_help("of the initial weights and the order of frames"))
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="float32", metadata=setting_help("arithmetic of the fit; auto: bfloat16 where the processor has it")
    )

    def __post_init__(self) -> None:
        check_counts(self, ("epochs", "batch"))
        check_numbers(self, {"lr": (0.0, 10.0)})
        if not 0 <= self.seed < 1 << 63:
            raise InvalidParameter(f"seed={self.seed} is not in 0..2**63 - 1")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise InvalidParameter(f"max_pixels={self.max_pixels} is not positive")


def check_counts(params: object, names: tuple[str, ...]) -> None:
    """Raise :class:`InvalidParameter` where a field is not a positive number of reasonable size."""
    for name in names:
        value = getattr(params, name)
        if not 1 <= value <= 1 << 20:
            raise InvalidParameter(f"{name}={value} is not in 1..{1 << 20}")


def check_numbers(params: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise :class:`InvalidParameter` where a field is not None and not above the low and up to the high end."""
    for name, (low, high) in ranges.items():
        value = getattr(params, name)
        if value is not None and not (math.isfinite(value) and low < value <= high):
            raise InvalidParameter(f"{name}={value} is not in {low:g}..{high:g}")


def stride_list(strides: str) -> tuple[int, ...]:
    """``5,4,4,2,2`` as integers; raises :class:`InvalidParameter` for anything but small ones."""
    parts = strides.split(",")
    if not 1 <= len(parts) <= 8 or not all(part.isdecimal() and 1 <= int(part) <= 16 for part in parts):
        raise InvalidParameter(f"strides={strides} is not auto or 1 to 8 integers of 1 to 16, such as 5,4,4,2,2")
    return tuple(int(part) for part in parts)


def encoded_size(params: SizeSettings, width: int, height: int) -> tuple[int, int]:
    """Width and height of the encoded pictures for a source of ``width`` x ``height``."""
    if params.size is not None:
        return params.size.width, params.size.height
    if params.max_pixels is None or width * height <= params.max_pixels:
        return width, height
    scale = math.sqrt(params.max_pixels / (width * height))
    return _even(width * scale), _even(height * scale)


def _even(length: float) -> int:
    return max(2, int(length) // 2 * 2)
