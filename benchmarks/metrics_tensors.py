"""Distortion of caches and other arrays."""

from __future__ import annotations

from typing import Any

from ..formats.errors import UnsupportedInput
from .metrics_audio import ratio_db
from .scorers import Metric

__all__ = ["SIGNAL_TO_ERROR"]


def signal_to_error_db(original: Any, decoded: Any) -> float:
    """Energy of the array over the energy of the error; at most 100 dB."""
    import numpy as np

    two = np.asarray(decoded)
    if original.shape != two.shape:
        raise UnsupportedInput(f"the original is {original.shape}, what was decoded {two.shape}")
    one = original.astype(np.float64)
    return ratio_db(one, one - two.astype(np.float64))


SIGNAL_TO_ERROR = Metric(
    name="signal_to_error_db",
    title="signal to error",
    unit="dB",
    kinds=frozenset({"tensors"}),
    higher_is_better=True,
    function=signal_to_error_db,
)
