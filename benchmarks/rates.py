"""The one place where sizes become rates: all bits of the file over pixels, seconds, bytes or elements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..formats.errors import InvalidParameter

__all__ = ["RATE_UNITS", "rate", "rate_divisor"]

RATE_UNITS = {
    "image": "bits per pixel",
    "video": "bits per pixel",
    "audio": "kbit/s",
    "bytes": "bits per byte",
    "tensors": "bits per element",
}


def rate_divisor(kind: str, content: Any) -> float:
    """What the bits of a file are divided by: pixels, milliseconds of sound, bytes or elements."""
    if kind == "image":
        return float(content.shape[0] * content.shape[1])
    if kind == "video":
        return float(content.frames.shape[0] * content.frames.shape[1] * content.frames.shape[2])
    if kind == "audio":
        return float(len(content.samples) / content.rate * 1000)  # bits per millisecond are kbit/s
    if kind == "bytes":
        return float(len(content))
    if kind == "tensors":
        return float(content.size)
    raise InvalidParameter(f"no rate is defined for {kind}")


def rate(file_bytes: Iterable[int], divisors: Iterable[float]) -> float:
    """The rate of a whole data set: all bits of all files over the sum of the divisors."""
    total = sum(divisors)
    if total <= 0:
        raise InvalidParameter("a rate needs content that is not empty")
    return 8 * sum(file_bytes) / total
