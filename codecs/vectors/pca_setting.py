"""What the setting ``pca`` asks for; apart from the computing, so that listing settings needs no NumPy."""

from __future__ import annotations

from ...formats.errors import InvalidParameter

__all__ = ["parse_pca"]


def parse_pca(text: str) -> tuple[str, float] | None:
    """What ``pca=TEXT`` asks for: ``("dimensions", n)``, ``("variance", share)`` or ``("part", share)``; None: nothing.

    ``192`` is a number of dimensions, ``50%`` a part of them, and ``0.9`` the variance that they must explain.
    """
    try:
        if text == "none":
            return None
        if text.endswith("%"):
            kind, value = "part", float(text[:-1]) / 100
        elif text.isdecimal():
            kind, value = "dimensions", float(text)
        else:
            kind, value = "variance", float(text)
    except ValueError:
        value = kind = None  # type: ignore[assignment]
    if kind is None or not (value >= 1 if kind == "dimensions" else 0 < value <= 1):
        raise InvalidParameter(
            f"pca={text} is not a number of dimensions (192), a part of them (50%), "
            "a share of the variance above 0 and up to 1 (0.9), or none"
        )
    return kind, value
