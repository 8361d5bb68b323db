"""The closed loop: every layer is predicted from the decoded coefficients of the layers before it.

Predictions are floating point, and decoders on other devices may differ in their last bits. No symbol depends on
them: classes and tables come from integers alone, so such differences stay as small as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .cache_model import history_layers
from .quantisation import dequantise, quantise
from .symbols import class_numbers, step_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .cache_model import CacheModel, PartModel

__all__ = ["ClosedLoop"]

Floats = "NDArray[np.float32]"


class ClosedLoop:
    """Codes the layers of one range of tokens, in order.

    Args:
        model: the model of the cache.
        quality: see :mod:`codeckit.codecs.kv.symbols`.
        weights: per layer, int8 [heads, tokens of the range].
    """

    def __init__(self, model: CacheModel, quality: int, weights: Sequence[NDArray[np.int8]]) -> None:
        self._model = model
        self._quality = quality
        self._weights = weights
        # layer -> decoded coefficients [tokens, channels of the layer], parts side by side
        self._decoded: dict[int, NDArray[np.float32]] = {}

    def classes(self, layer: int) -> list[NDArray[np.uint16]]:
        """The class of every symbol of ``layer``: uint16 [tokens, heads, width] for each part."""
        return [class_numbers(part.scales, self._weights[layer], self._quality) for part in self._model.parts[layer]]

    def encode(self, layer: int, parts: Sequence[NDArray[np.float32]]) -> list[NDArray[np.int32]]:
        """The symbols of ``parts``, float32 [tokens, heads, width] each, before RoPE."""
        steps = step_sizes(self._weights[layer], self._quality)
        found: list[NDArray[np.float32]] = []
        symbols = []
        for model, values, classes in zip(self._model.parts[layer], parts, self.classes(layer), strict=True):
            coefficients = _per_head(values - model.mean, model.analysis)
            predictions = self._predict(layer, model, found, values.shape)
            own = np.empty(values.shape, np.int32)
            quantise(coefficients, predictions, classes, steps, self._model.shifts, own)
            symbols.append(own)
            found.append(predictions.reshape(len(values), -1))
        self._keep(layer, found)
        return symbols

    def decode(self, layer: int, symbols: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """The decoded parts, float32 [tokens, heads, width] each, before RoPE."""
        steps = step_sizes(self._weights[layer], self._quality)
        found: list[NDArray[np.float32]] = []
        parts = []
        for model, own, classes in zip(self._model.parts[layer], symbols, self.classes(layer), strict=True):
            values = self._predict(layer, model, found, own.shape)
            dequantise(own, classes, steps, self._model.shifts, values)
            found.append(values.reshape(len(own), -1))
            restored = _per_head(values, model.synthesis)
            restored += model.mean
            parts.append(restored)
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
        for piece in [*(self._decoded[number] for number in earlier), *found]:
            product = piece @ model.predictor.down[rows : rows + piece.shape[1]]
            rows += piece.shape[1]
            low = product if low is None else np.add(low, product, out=low)
        result: NDArray[np.float32] = (low @ model.predictor.up).reshape(shape)
        return result

    def _keep(self, layer: int, found: list[NDArray[np.float32]]) -> None:
        if self._model.reach == 0:
            return
        self._decoded[layer] = np.concatenate(found, axis=1) if len(found) > 1 else found[0]
        self._decoded.pop(layer - self._model.reach, None)


def _per_head(values: NDArray[np.float32], matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    # [tokens, heads, width] x [heads, width, width], head by head
    result = np.empty(values.shape, np.float32)
    for head, matrix in enumerate(matrices):
        np.matmul(values[:, head], matrix, out=result[:, head])
    return result
