"""Settings of the NeRV++ codec and their presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...formats.errors import InvalidParameter
from ..parameters import Size
from .clip_settings import FitParameters, check_counts, check_numbers, setting_help, stride_list

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "NeRVPlusPlusParameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeRVPlusPlusParameters(FitParameters):
    """What ``--set`` can change. The defaults are those of the variant ``tapered``."""

    variant: Literal["paper", "tapered"] = field(
        default="tapered",
        metadata=setting_help(
            "paper: frames by their time, at least 80 channels up to full resolution; tapered: frames by embeddings, "
            "channels that shrink towards full resolution"
        ),
    )
    model_size: float = field(
        default=0.1, metadata=setting_help("million parameters of decoder and embeddings together, at most")
    )
    strides: str = field(
        default="auto", metadata=setting_help("upsampling of each stage, such as 5,2,2,2,2; auto by size")
    )
    expansion: int = field(default=2, metadata=setting_help("how many times wider a residual block is inside"))
    reduce: float = field(default=1.5, metadata=setting_help("tapered: each stage has so many times fewer channels"))
    lower_width: int = field(default=12, metadata=setting_help("tapered: but at least so many"))
    embedding: int = field(default=16, metadata=setting_help("tapered: channels of a frame's embedding"))
    encoder_width: int = field(
        default=32, metadata=setting_help("tapered: channels of the encoder, which is not stored")
    )
    loss: Literal["l1-ssim", "mse"] | None = field(
        default=None,
        metadata=setting_help(
            "0.7 L1 + 0.3 (1 - SSIM), or the mean squared error; none: as published for paper, mse for tapered"
        ),
    )
    warm_up: float = field(default=0.2, metadata=setting_help("share of the fit in which the learning rate rises"))

    def __post_init__(self) -> None:
        FitParameters.__post_init__(self)
        check_counts(self, ("lower_width", "embedding", "encoder_width"))
        check_numbers(self, {"model_size": (0.0, 1000.0), "reduce": (0.1, 10.0), "warm_up": (0.0, 0.9)})
        if not 1 <= self.expansion <= 16:
            raise InvalidParameter(f"expansion={self.expansion} is not in 1..16")
        if self.strides != "auto":
            stride_list(self.strides)

    @property
    def chosen_loss(self) -> str:
        """The loss that is set, or that of the variant."""
        return self.loss or ("l1-ssim" if self.variant == "paper" else "mse")


def _paper(model_size: float) -> dict[str, Any]:
    return {
        "variant": "paper",
        "model_size": model_size,
        "strides": "5,2,2,2,2",
        "epochs": 300,
        "batch": 1,
        "lr": 5e-4,
        "size": Size(1280, 720),
    }


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"max_pixels": 320 * 160, "epochs": 100, "lr": 2e-3, "precision": "auto"},
    "paper-xs": _paper(1.85),
    "paper-s": _paper(3.3),
}
