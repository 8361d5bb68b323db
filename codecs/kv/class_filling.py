# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""The compiled loop that finds the class of every symbol."""

from __future__ import annotations

from ...entropy.native_compilation import compiled

__all__ = ["fill"]


@compiled
def fill(scales, steps, largest, classes):
    """``classes`` [tokens, heads, width] from ``scales`` [heads, width] and ``steps`` [heads, tokens], both int32."""
    tokens, heads, width = classes.shape
    for token in range(tokens):
        for head in range(heads):
            step = steps[head, token]
            for channel in range(width):
                classes[token, head, channel] = min(max((scales[head, channel] - step) >> 1, 0), largest)
