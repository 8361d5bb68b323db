"""Settings of the HNeRV codec and their presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..parameters import Size
from .clip_settings import FitParameters, check_counts, check_numbers, setting_help, stride_list

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "HNeRVParameters"]

_SMALL_DECODER = 0.09


@dataclass(frozen=True, slots=True, kw_only=True)
class HNeRVParameters(FitParameters):
    """What ``--set`` can change. The defaults are the published ones for 640 x 1280 pictures."""

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

    def __post_init__(self) -> None:
        FitParameters.__post_init__(self)
        check_counts(self, ("embedding", "encoder_width", "lower_width"))
        check_numbers(self, {"reduce": (0.1, 10.0), "model_size": (0.0, 1000.0)})
        if self.strides != "auto":
            stride_list(self.strides)

    def total_size(self, frames: int, values_per_frame: int) -> float:
        """Million parameters to aim for, embeddings included."""
        if self.model_size is not None:
            return self.model_size
        return _SMALL_DECODER + frames * values_per_frame / 1e6


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
