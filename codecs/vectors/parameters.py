"""Settings of an encode to ``vectors``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...formats.errors import InvalidParameter
from .element_types import DtypeName
from .file_header import MAX_BLOCK_ROWS, MAX_TABLES
from .pca_setting import parse_pca

__all__ = ["Method", "Scale", "VectorsParameters"]

Scale = Literal["auto", "none", "full"]
Method = Literal["mse", "range", "common"]


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorsParameters:
    """Stages in their order: lengths, projection, number format, entropy coding."""

    dtype: DtypeName = field(default="float8_e4m3", metadata=_help("number format of the stored values"))
    pca: str = field(
        default="none",
        metadata=_help(
            "principal components: dimensions (192), a part of them (50%), or a share of the variance (0.9)"
        ),
    )
    random_projection: int | None = field(
        default=None, metadata=_help("dimensions of a random orthonormal projection, the control of pca")
    )
    projection: str = field(
        default="none", metadata=_help("a safetensors file with mean [D] and components [d, D] instead of a fitted one")
    )
    norms: Literal["inside", "apart"] = field(
        default="inside", metadata=_help("apart: unit vectors are coded, and the lengths kept as float32")
    )
    calibration: Method = field(
        default="mse",
        metadata=_help(
            "levels of integers: least squared error, from smallest to largest, or one step for all dimensions"
        ),
    )
    rescoring_bits: int = field(default=0, metadata=_help("of binary: bits kept beside the sign, 0 to 7"))
    scale: Scale = field(
        default="auto",
        metadata=_help("of float8, a power of two: auto where values are too small or large, full up to its range"),
    )
    entropy: Literal["auto", "none"] = field(
        default="auto", metadata=_help("auto: entropy coding of each block where that is smaller")
    )
    tables: int = field(default=8, metadata=_help(f"most frequency tables shared by dimensions, 1 to {MAX_TABLES}"))
    sample: int = field(default=20_000, metadata=_help("vectors to fit projection, levels and tables to"))
    block_rows: int | None = field(
        default=None, metadata=_help("vectors of an independently readable block; none: about a million values")
    )

    def __post_init__(self) -> None:
        wanted = parse_pca(self.pca)
        if sum((wanted is not None, self.random_projection is not None, self.projection != "none")) > 1:
            raise InvalidParameter("pca, random_projection and projection exclude one another")
        for name, value, least, most in (
            ("rescoring_bits", self.rescoring_bits, 0, 7),
            ("tables", self.tables, 1, MAX_TABLES),
            ("sample", self.sample, 1, 1 << 24),
            ("block_rows", self.block_rows, 1, MAX_BLOCK_ROWS),
        ):
            if value is not None and not least <= value <= most:
                raise InvalidParameter(f"{name}={value} is not within {least} to {most}")
        if self.rescoring_bits and self.dtype != "binary":
            raise InvalidParameter(f"rescoring_bits belong to dtype=binary, not to {self.dtype}")
