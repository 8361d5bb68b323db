"""Distortion of pictures and clips; a clip's is the mean over its frames. Identical pictures count as 100 dB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..formats.errors import UnsupportedInput
from .scorers import Metric

__all__ = ["GMSD", "MS_SSIM", "PSNR", "SSIM", "VIF", "of_pictures", "picture_tensor"]

IDENTICAL_DB = 100.0
_PICTURES = frozenset({"image", "video"})


def psnr_db(original: Any, decoded: Any) -> float:
    """Peak signal-to-noise ratio over all samples of all colours, dB; uint8 [H, W, 3]."""
    import numpy as np

    mean_square = float(np.mean((original.astype(np.float32) - decoded) ** 2, dtype=np.float64))
    if mean_square == 0:
        return IDENTICAL_DB
    return min(IDENTICAL_DB, float(10 * np.log10(255**2 / mean_square)))


def ssim(original: Any, decoded: Any) -> float:
    """SSIM (Wang et al. 2004), Gaussian window of 11, mean over the colours."""
    from pytorch_msssim import ssim as library

    _require_side(original, 11, "SSIM")
    return float(library(picture_tensor(original), picture_tensor(decoded), data_range=255.0))


def ms_ssim(original: Any, decoded: Any) -> float:
    """Multi-scale SSIM (Wang et al. 2003) of five scales, mean over the colours."""
    from pytorch_msssim import ms_ssim as library

    _require_side(original, 161, "MS-SSIM")
    return float(library(picture_tensor(original), picture_tensor(decoded), data_range=255.0))


def vif(original: Any, decoded: Any) -> float:
    """Visual information fidelity in the pixel domain (Sheikh and Bovik 2006)."""
    import piq

    _require_side(original, 41, "VIF")
    return float(piq.vif_p(picture_tensor(decoded), picture_tensor(original), data_range=255.0))


def gmsd(original: Any, decoded: Any) -> float:
    """Gradient magnitude similarity deviation (Xue et al. 2014); 0 is identical."""
    import piq

    return float(piq.gmsd(picture_tensor(decoded), picture_tensor(original), data_range=255.0))


def of_pictures(measure: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    """``measure`` of two pictures as a metric of pictures and clips; raises :class:`UnsupportedInput` for two sizes."""

    def measured(original: Any, decoded: Any) -> float:
        import numpy as np

        one, two = (getattr(content, "frames", content) for content in (original, decoded))
        if one.shape != two.shape:
            raise UnsupportedInput(f"the original is {one.shape}, what was decoded {two.shape}")
        if one.ndim == 3:
            return measure(one, two)
        return float(np.mean([measure(first, second) for first, second in zip(one, two, strict=True)]))

    return measured


def picture_tensor(picture: Any) -> Any:
    """Uint8 [H, W, 3] as float32 [1, 3, H, W]."""
    import torch

    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()


def _require_side(picture: Any, side: int, name: str) -> None:
    if min(picture.shape[:2]) < side:
        raise UnsupportedInput(
            f"{name} needs pictures of at least {side}x{side}; this one is {picture.shape[1]}x{picture.shape[0]}"
        )


PSNR = Metric(
    name="psnr_db", title="PSNR", unit="dB", kinds=_PICTURES, higher_is_better=True, function=of_pictures(psnr_db)
)
SSIM = Metric(
    name="ssim",
    title="SSIM",
    unit="",
    kinds=_PICTURES,
    higher_is_better=True,
    function=of_pictures(ssim),
    library=("pytorch-msssim", "pytorch_msssim"),
)
MS_SSIM = Metric(
    name="ms_ssim",
    title="MS-SSIM",
    unit="",
    kinds=_PICTURES,
    higher_is_better=True,
    function=of_pictures(ms_ssim),
    library=("pytorch-msssim", "pytorch_msssim"),
)
VIF = Metric(
    name="vif",
    title="VIF",
    unit="",
    kinds=_PICTURES,
    higher_is_better=True,
    function=of_pictures(vif),
    library=("piq", "piq"),
)
GMSD = Metric(
    name="gmsd",
    title="GMSD",
    unit="",
    kinds=_PICTURES,
    higher_is_better=False,
    function=of_pictures(gmsd),
    library=("piq", "piq"),
)
