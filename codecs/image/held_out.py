"""The photographs that are never trained on, so that they can be measured."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["held_out_names"]


def held_out_names() -> frozenset[str]:
    """File names listed in ``held_out.txt``, chosen by a hash of the name before any training."""
    text = files(__package__).joinpath("held_out.txt").read_text(encoding="utf-8")
    return frozenset(text.split())
