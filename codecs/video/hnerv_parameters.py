"""Settings of the HNeRV codec and their presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...formats.errors import InvalidParameter
from ..parameters import Range, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "HNeRVParameters", "SizeSettings", "check_numbers", "encoded_size", "setting_help"]

_SMALL_DECODER = 0.09


class SizeSettings(Protocol):
    """The settings that decide the size of the encoded pictures."""

    @property
    def size(self) -> Size | None: ...

    @property
    def max_pixels(self) -> int | None: ...


def setting_help(text: str) -> dict[str, str]:
    """The metadata of a parameter's field."""
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class HNeRVParameters:
    """What ``--set`` can change. The defaults are the published ones for 640 x 1280 pictures."""

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
    model_size: float | None = field(
        default=1.5,
        metadata=setting_help(
            f"million parameters of decoder and embeddings together; none: {_SMALL_DECODER} million and the embeddings"
        ),
    )
    strides: str = field(
        default="auto", metadata=setting_help("upsampling of each stage, such as 5,4,4,2,2; auto by size")
    )
    embedding: int = field(default=16, metadata=setting_help("channels of a frame's embedding"))
    encoder_width: int = field(default=64, metadata=setting_help("channels of the encoder, which is not stored"))
    reduce: float = field(default=1.2, metadata=setting_help("each stage has so many times fewer channels"))
    lower_width: int = field(default=12, metadata=setting_help("but at least so many"))
    epochs: int = field(default=300, metadata=setting_help("passes over the clip"))
    batch: int = field(default=2, metadata=setting_help("frames per step"))
    lr: float = field(default=1e-3, metadata=setting_help("peak learning rate of Adam"))
    seed: int = field(default=1, metadata=setting_help("of the initial weights and the order of frames"))
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="float32", metadata=setting_help("arithmetic of the fit; auto: bfloat16 where the processor has it")
    )

    def __post_init__(self) -> None:
        for name in ("embedding", "encoder_width", "lower_width", "epochs", "batch"):
            value = getattr(self, name)
            if not 1 <= value <= 1 << 20:
                raise InvalidParameter(f"{name}={value} is not in 1..{1 << 20}")
        check_numbers(self, {"lr": (0.0, 10.0), "reduce": (0.1, 10.0), "model_size": (0.0, 1000.0)})
        if not 0 <= self.seed < 1 << 63:
            raise InvalidParameter(f"seed={self.seed} is not in 0..2**63 - 1")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise InvalidParameter(f"max_pixels={self.max_pixels} is not positive")
        if self.strides != "auto":
            self.stride_list()

    def stride_list(self) -> tuple[int, ...]:
        """The strides that were set; raises :class:`InvalidParameter` for anything but small integers."""
        parts = self.strides.split(",")
        if not 1 <= len(parts) <= 8 or not all(part.isdecimal() and 1 <= int(part) <= 16 for part in parts):
            raise InvalidParameter(
                f"strides={self.strides} is not auto or 1 to 8 integers of 1 to 16, such as 5,4,4,2,2"
            )
        return tuple(int(part) for part in parts)

    def total_size(self, frames: int, values_per_frame: int) -> float:
        """Million parameters to aim for, embeddings included."""
        if self.model_size is not None:
            return self.model_size
        return _SMALL_DECODER + frames * values_per_frame / 1e6


def check_numbers(params: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise :class:`InvalidParameter` where a field is not None and not above the low and up to the high end."""
    for name, (low, high) in ranges.items():
        value = getattr(params, name)
        if value is not None and not (math.isfinite(value) and low < value <= high):
            raise InvalidParameter(f"{name}={value} is not in {low:g}..{high:g}")


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


def _paper(model_size: float) -> dict[str, Any]:
    return {"model_size": model_size, "size": Size(1280, 640), "strides": "5,4,4,2,2"}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "max_pixels": 320 * 160,
        "model_size": None,
        "encoder_width": 32,
        "epochs": 100,
        "lr": 2e-3,
        "precision": "auto",
    },
    "paper-0.35m": _paper(0.35),
    "paper-0.75m": _paper(0.75),
    "paper-1.5m": _paper(1.5),
    "paper-3m": _paper(3.0),
}
