"""The closed loop: every layer is predicted from the decoded coefficients of the layers before it.

Tokens do not depend on one another, so a token chunk is coded in blocks of :data:`BLOCK_TOKENS`, side by side.
Predictions are floating point, and decoders on other devices may differ in their last bits. No symbol depends on
them: classes and tables come from integers alone, so such differences stay as small as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .cache_model import history_layers
from .quantisation import dequantise, quantise
from .symbols import step_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .cache_model import CacheModel, PartModel
    from .symbol_block import DecodedSymbols

__all__ = ["BLOCK_TOKENS", "ClosedLoop", "blocks_of"]

Floats = "NDArray[np.float32]"

BLOCK_TOKENS = 128


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
        # layer -> decoded coefficients [tokens, channels] of each part
        self._decoded: dict[int, list[NDArray[np.float32]]] = {}

    def encode(
        self,
        layer: int,
        parts: Sequence[NDArray[np.float32]],
        classes: Sequence[NDArray[np.uint16]],
        symbols: Sequence[NDArray[np.int32]],
    ) -> None:
        """Fill ``symbols`` from ``parts``, float32 [tokens, heads, width] before RoPE, and their ``classes``."""
        steps = step_sizes(self._weights[layer], self._quality)
        found: list[NDArray[np.float32]] = []
        for model, values, numbers, own in zip(self._model.parts[layer], parts, classes, symbols, strict=True):
            coefficients = _per_head(values - model.mean, model.analysis)
            predictions = self._predict(layer, model, found, values.shape)
            quantise(coefficients, predictions, numbers, steps, self._model.shifts, own)
            found.append(predictions.reshape(len(values), -1))
        self._keep(layer, found)

    def decode(
        self,
        layer: int,
        symbols: Sequence[DecodedSymbols],
        classes: Sequence[NDArray[np.uint16]],
        tokens: tuple[int, int],
    ) -> list[NDArray[np.float32]]:
        """The parts of ``tokens`` of a chunk, means yet to be added: float32 [tokens, heads, width] before RoPE."""
        steps = step_sizes(self._weights[layer], self._quality)
        found: list[NDArray[np.float32]] = []
        parts = []
        for model, own, numbers in zip(self._model.parts[layer], symbols, classes, strict=True):
            codes = own.codes[slice(*tokens)]
            values = self._predict(layer, model, found, codes.shape)
            dequantise(
                codes,
                own.marker,
                own.escaped,
                own.first_escape(tokens[0]),
                numbers[slice(*tokens)],
                steps,
                self._model.shifts,
                values,
            )
            found.append(values.reshape(len(codes), -1))
            parts.append(_per_head(values, model.synthesis))
        self._keep(layer, found)
        return parts

    def _predict(
        self,
        layer: int,
        model: PartModel,
        found: list[NDArray[np.float32]],
        shape: tuple[int, ...],
    ) -> NDArray[np.float32]:
        if model.predictor is None:
            return np.zeros(shape, np.float32)
        earlier = history_layers(layer, reach=self._model.reach, intra_every=self._model.intra_every)
        rows = 0
        low: Any = None
        # the history is never gathered: each piece multiplies its own rows of the predictor
        for piece in [*(part for number in earlier for part in self._decoded[number]), *found]:
            product = piece @ model.predictor.down[rows : rows + piece.shape[1]]
            rows += piece.shape[1]
            low = product if low is None else np.add(low, product, out=low)
        result: NDArray[np.float32] = (low @ model.predictor.up).reshape(shape)
        return result

    def _keep(self, layer: int, found: list[NDArray[np.float32]]) -> None:
        if self._model.reach == 0:
            return
        self._decoded[layer] = found
        self._decoded.pop(layer - self._model.reach, None)


def _per_head(values: NDArray[np.float32], matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    # [tokens, heads, width] x [heads, width, width], head by head
    result = np.empty(values.shape, np.float32)
    for head, matrix in enumerate(matrices):
        np.matmul(values[:, head], matrix, out=result[:, head])
    return result
