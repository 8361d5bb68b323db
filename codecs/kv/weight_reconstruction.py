# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
"""The compiled loop that turns weight errors back into weights: each token needs the one before."""

from __future__ import annotations

from ...entropy.native_compilation import compiled

__all__ = ["restore"]


@compiled
def restore(errors, means, coefficients, start, weights):
    """Fill ``weights`` [heads, tokens] from ``errors`` of the same shape; all arrays int64."""
    heads, tokens = errors.shape
    for head in range(heads):
        previous = start[head]
        c0, c1, c2, c3 = coefficients[head]
        for token in range(tokens):
            earlier = means[token - 1] if token else means[0]
            predicted = (c0 * previous + c1 * means[token] + c2 * earlier + c3) >> 8
            previous = predicted + errors[head, token]
            # a damaged stream must not run away
            previous = min(max(previous, -1000), 1000)
            weights[head, token] = previous
