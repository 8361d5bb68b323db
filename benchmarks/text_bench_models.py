"""Byte models beside one another, on books that none was trained on: counts and a trained transformer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codeckit.codecs.text.transformer import bits_per_token
from codeckit.codecs.text.transformer_training import load_transformer
from codeckit.codecs.text.windows.parameters import WindowsParams
from codeckit.codecs.text.windows.scheme import load_scheme
from codeckit.codecs.text.windows.window_coding import WindowRule, information_bits

from .text_windows_bench import held_out_text

__all__ = ["byte_model_rows"]

_MEGABYTES = 0.13


def byte_model_rows(books: Path, transformer: Path) -> Iterator[dict[str, Any]]:
    """Bits per byte of the shipped counts and of a trained ``transformer`` on a part of the held-out ``books``.

    Both forget at the same places: the transformer reads pieces as long as its context.
    """
    model, settings, described = load_transformer(transformer)
    text = np.frombuffer(held_out_text(books, _MEGABYTES), np.uint8)
    text = text[: len(text) // settings.context * settings.context]
    yield {
        "coder": "byte transformer",
        "parameters": sum(item.numel() for item in model.parameters()),
        "training_cpu_seconds": float(described["cpu_seconds"]),
        "forgets_every": settings.context,
        "bits_per_byte": bits_per_token(model, text, settings),
        "input_bytes": len(text),
    }
    counts = load_scheme(WindowsParams(mode="ac")).model
    if counts is None:
        raise RuntimeError("the arithmetic code has no model")
    for every in (settings.context, len(text)):
        ends = np.arange(every, len(text) + 1, every)
        bits = information_bits(text, ends, counts, WindowRule(reset_every=1))
        yield {
            "coder": "counts (byte model of windows)",
            "forgets_every": every,
            "bits_per_byte": bits / len(text),
            "input_bytes": len(text),
        }
