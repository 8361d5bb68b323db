"""Settings of the codec ``gridnerv`` and their presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...formats.errors import InvalidParameter
from .clip_settings import FitParameters, check_counts, check_numbers, setting_help
from .grid_structure import GridStructure, parse_grids

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "GridParameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridParameters(FitParameters):
    """What ``--set`` can change."""

    lmbda: float = field(
        default=5e-3,
        metadata=setting_help(
            "squared error (of samples in 0..1) that one bit per pixel is worth; larger: smaller file"
        ),
    )
    target_bpp: float | None = field(
        default=None, metadata=setting_help("reach this many bits per pixel with the whole file; lmbda adapts")
    )
    target_kb: float | None = field(default=None, metadata=setting_help("reach a file of this many kilobytes of 1000"))
    grids: str = field(
        default="16:16:4,8:8:2,4:2:1,4:16:0",
        metadata=setting_help("latents as stride:channels:period, in pixels and frames; period 0: one for all frames"),
    )
    widths: str = field(default="64,64,32", metadata=setting_help("channels of each level, coarse to fine"))
    blocks: str = field(default="1,2,2", metadata=setting_help("residual blocks of each level"))
    expansion: int = field(default=2, metadata=setting_help("how many times wider a block is inside"))
    longest_segment: int = field(default=128, metadata=setting_help("longer scenes are divided; bounds the memory"))
    shortest_segment: int = field(default=12, metadata=setting_help("scene changes closer than this are passed over"))
    segments_at_once: int | None = field(
        default=None, metadata=setting_help("segments fitted side by side; none: one a core, at most 8")
    )
    mask: str | None = field(
        default=None,
        metadata=setting_help("a picture, or a clip with one for each frame: only what is white there is fitted"),
    )
    start_from: str | None = field(
        default=None,
        metadata=setting_help("a gridnerv file of this clip with the same grids and network, to go on from"),
    )
    epochs: int = field(default=150, metadata=setting_help("passes over each segment"))
    lr: float = field(default=8e-3, metadata=setting_help("peak learning rate of the network"))
    latent_lr: float = field(default=6e-2, metadata=setting_help("peak learning rate of latents, in steps"))

    def __post_init__(self) -> None:
        FitParameters.__post_init__(self)
        check_counts(self, ("expansion", "longest_segment", "shortest_segment"))
        ranges = {"lr": 1.0, "latent_lr": 10.0, "lmbda": 1e3, "target_bpp": 48.0, "target_kb": 1e9}
        check_numbers(self, {name: (0.0, high) for name, high in ranges.items()})
        if self.segments_at_once is not None and not 1 <= self.segments_at_once <= 1024:
            raise InvalidParameter(f"segments_at_once={self.segments_at_once} is not in 1..1024")
        if self.target_bpp is not None and self.target_kb is not None:
            raise InvalidParameter("give target_bpp or target_kb, not both")
        self.structure(height=1, width=1)

    def structure(self, *, height: int, width: int) -> GridStructure:
        """The network for pictures of this size; raises :class:`InvalidParameter`."""
        grids = parse_grids(self.grids)
        levels = len({grid.stride for grid in grids})
        widths, blocks = _counts("widths", self.widths, levels, 1, 4096), _counts("blocks", self.blocks, levels, 0, 64)
        if self.expansion > 16:
            raise InvalidParameter(f"expansion={self.expansion} is above 16")
        stride = grids[0].stride
        return GridStructure(
            rows=math.ceil(height / stride),
            columns=math.ceil(width / stride),
            grids=grids,
            widths=widths,
            blocks=blocks,
            expansion=self.expansion,
        )

    def target_bits(self, pixels: int) -> float | None:
        """The size of the whole file that is aimed at, for so many ``pixels`` of all frames; None without a target."""
        if self.target_bpp is not None:
            return self.target_bpp * pixels
        return None if self.target_kb is None else self.target_kb * 8000


def _counts(name: str, text: str, levels: int, low: int, high: int) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != levels or not all(part.isdecimal() and low <= int(part) <= high for part in parts):
        raise InvalidParameter(f"{name}={text} is not {levels} integers in {low}..{high}, one for each stride of grids")
    return tuple(int(part) for part in parts)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"max_pixels": 320 * 160, "epochs": 60},
    "standard": {},
    "thorough": {"epochs": 400, "batch": 4, "widths": "96,80,48", "blocks": "1,2,3", "precision": "auto"},
}
