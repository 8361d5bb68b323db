"""The closed loop: every layer is predicted from the decoded coefficients of the layers before it.

Tokens do not depend on one another, so a token chunk is coded in blocks of :data:`BLOCK_TOKENS`, side by side.
Predictions are floating point, and decoders on other devices may differ in their last bits. No symbol depends on
them: classes and tables come from integers alone, so such differences stay as small as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .quantisation import dequantise, quantise, reconstruction_values
from .symbols import step_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .cache_model import CacheModel
    from .symbol_block import DecodedSymbols

__all__ = ["BLOCK_TOKENS", "ClosedLoop", "blocks_of"]

Floats = "NDArray[np.float32]"

BLOCK_TOKENS = 256


def blocks_of(start: int, stop: int) -> list[tuple[int, int]]:
    """The blocks of a token chunk."""
    return [(first, min(first + BLOCK_TOKENS, stop)) for first in range(start, stop, BLOCK_TOKENS)]


class ClosedLoop:
    """Codes the layers of one block of tokens, in order.

    Args:
        model: the model of the cache.
        quality: see :mod:`codeckit.codecs.kv.symbols`.
        weights: per layer, int8 [heads, tokens of the block].
    """

    def __init__(self, model: CacheModel, quality: int, weights: Sequence[NDArray[np.int8]]) -> None:
        self._model = model
        self._quality = quality
        self._weights = weights
        self._values = reconstruction_values(model.shifts)
        # (layer, part) -> what the parts decoded so far add to the low-rank side of its predictor, [tokens, rank]
        self._low: dict[tuple[int, int], NDArray[np.float32]] = {}

    def encode(
        self,
        layer: int,
        parts: Sequence[NDArray[np.float32]],
        classes: Sequence[NDArray[np.uint16]],
        symbols: Sequence[NDArray[np.int32]],
    ) -> None:
        """Fill ``symbols`` from ``parts``, float32 [tokens, heads, width] before RoPE, and their ``classes``."""
        steps = step_sizes(self._weights[layer], self._quality)
        for part, (values, numbers, own) in enumerate(zip(parts, classes, symbols, strict=True)):
            model = self._model.parts[layer][part]
            coefficients = _per_head(values - model.mean, model.analysis)
            predictions = self._predict(layer, part, values.shape)
            quantise(coefficients, predictions, numbers, steps, self._model.shifts, own)
            self._feed(layer, part, predictions)

    def decode(
        self,
        layer: int,
        symbols: Sequence[DecodedSymbols],
        classes: Sequence[NDArray[np.uint16]],
        tokens: tuple[int, int],
    ) -> list[NDArray[np.float32]]:
        """The parts of ``tokens`` of a chunk, means yet to be added: float32 [tokens, heads, width] before RoPE."""
        steps = step_sizes(self._weights[layer], self._quality)
        parts = []
        for part, (own, numbers) in enumerate(zip(symbols, classes, strict=True)):
            codes = own.codes[slice(*tokens)]
            values = self._predict(layer, part, codes.shape)
            dequantise(
                codes,
                own.marker,
                own.escaped,
                own.first_escape(tokens[0]),
                numbers[slice(*tokens)],
                steps,
                self._values,
                self._model.shifts,
                values,
            )
            self._feed(layer, part, values)
            parts.append(_per_head(values, self._model.parts[layer][part].synthesis))
        return parts

    def _predict(self, layer: int, part: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        predictor = self._model.parts[layer][part].predictor
        low = self._low.pop((layer, part), None)
        if predictor is None or low is None:
            return np.zeros(shape, np.float32)
        return (low @ predictor.up).reshape(shape)

    def _feed(self, layer: int, part: int, decoded: NDArray[np.float32]) -> None:
        """Add what ``decoded`` coefficients contribute to every prediction that uses them, in one product."""
        feed = self._model.feeds[layer, part]
        if not feed.targets:
            return
        product = decoded.reshape(len(decoded), -1) @ feed.down
        for target, columns in feed.targets:
            piece = product[:, columns]
            known = self._low.get(target)
            self._low[target] = piece if known is None else known + piece


def _per_head(values: NDArray[np.float32], matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    # [tokens, heads, width] x [heads, width, width], head by head
    result = np.empty(values.shape, np.float32)
    for head, matrix in enumerate(matrices):
        np.matmul(values[:, head], matrix, out=result[:, head])
    return result
