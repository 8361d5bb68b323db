"""Whether bytes came back as they were."""

from __future__ import annotations

from .scorers import Metric

__all__ = ["EXACT"]


def exact(original: bytes, decoded: bytes) -> float:
    """1 when every byte is the same, else 0."""
    return float(original == decoded)


EXACT = Metric(name="exact", title="exact", unit="", kinds=frozenset({"bytes"}), higher_is_better=True, function=exact)
