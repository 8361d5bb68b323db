"""The closed loop: every layer is predicted from the decoded coefficients of the layers before it.

Tokens do not depend on one another, so a token chunk is coded in blocks of :data:`BLOCK_TOKENS`, side by side.
Predictions are floating point, and decoders on other devices may differ in their last bits. No symbol depends on
them: classes and tables come from integers alone, so such differences stay as small as they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .quantisation import add_escapes, dequantise, quantise_to_entries
from .symbols import step_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .cache_model import CacheModel
    from .quantisation import Escapes, SlotTables
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
        values: those of :func:`.quantisation.reconstruct` for the model's shifts.
        quality: see :mod:`codeckit.codecs.kv.symbols`.
        weights: per layer, int8 [heads, tokens of the block].
    """

    def __init__(
        self, model: CacheModel, values: NDArray[np.float32], quality: int, weights: Sequence[NDArray[np.int8]]
    ) -> None:
        self._model = model
        self._values = values
        self._steps = [step_sizes(rows, quality) for rows in weights]
        # (layer, part) -> what the parts decoded so far add to the low-rank side of its predictor, [tokens, rank]
        self._low: dict[tuple[int, int], NDArray[np.float32]] = {}
        # memory that is fresh for every part would be cleared by the system, page by page, every time
        self._buffers: dict[str, NDArray[np.float32]] = {}

    def buffer(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Uninitialised float32 of that shape, which the next call with the same name takes back."""
        size = math.prod(shape)
        found = self._buffers.get(name)
        if found is None or found.size < size:
            found = self._buffers[name] = np.empty(size, np.float32)
        return found[:size].reshape(shape)

    def encode(
        self,
        layer: int,
        part: int,
        values: NDArray[np.float32],
        classes: NDArray[np.uint16],
        slots: SlotTables,
        entries: NDArray[np.uint16],
    ) -> Escapes:
        """Fill ``entries`` [tokens, heads, width] from ``values`` [heads, tokens, width] before RoPE, less their mean.

        Parts come in their order within a layer.
        """
        heads, tokens, width = values.shape
        coefficients = self.buffer("coefficients", tokens, heads, width)
        np.matmul(values, self._model.parts[layer][part].analysis, out=coefficients.swapaxes(0, 1))
        predictions = self._predict(layer, part, coefficients.shape)
        escapes = quantise_to_entries(
            coefficients, predictions, classes, self._steps[layer], self._model.shifts, self._values, slots, entries
        )
        self._feed(layer, part, predictions)
        return escapes

    def decode(
        self,
        layer: int,
        part: int,
        symbols: DecodedSymbols,
        classes: NDArray[np.uint16],
        tokens: tuple[int, int],
    ) -> NDArray[np.float32]:
        """The part's ``tokens`` of a chunk, the mean yet to be added: float32 [heads, tokens, width] before RoPE.

        ``classes`` are those of the chunk. The result is overwritten by the next call.
        """
        first, last = tokens
        codes = symbols.codes[first:last]
        values = self._predict(layer, part, codes.shape)
        dequantise(codes, classes[first:last], self._steps[layer], self._values, values)
        places, escaped = symbols.escapes_of(first, last)
        if places.size:
            add_escapes(places, escaped, classes[first:last], self._steps[layer], self._model.shifts, values)
        self._feed(layer, part, values)
        count, heads, width = values.shape
        result = self.buffer("result", heads, count, width)
        np.matmul(values.swapaxes(0, 1), self._model.parts[layer][part].synthesis, out=result)
        return result

    def _predict(self, layer: int, part: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        predictions = self.buffer("predictions", *shape)
        predictor = self._model.parts[layer][part].predictor
        low = self._low.pop((layer, part), None)
        if predictor is None or low is None:
            predictions.fill(0)
        else:
            np.matmul(low, predictor.up, out=predictions.reshape(len(predictions), -1))
        return predictions

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
