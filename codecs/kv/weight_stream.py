"""Token weights as symbols: the difference from an integer prediction out of the token before and the layer before.

The prediction of the weight of a token in one head is ``(c0 * previous + c1 * mean + c2 * previous_mean + c3) >> 8``:
``previous`` is the same head's weight of the token before (``start`` of that head for the first token of a chunk), and
the means, in sixteenths, are over the heads of the layer before, at the same and at the previous token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...entropy.frequency_table import FrequencyTable
from ...entropy.stream_decoding import AnsDecoder
from ...entropy.streams import encode_symbols
from ...formats.errors import CorruptFile
from .sensitivity import MAX_WEIGHT, MIN_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["SCALES", "WeightModel", "decode_weights", "encode_weights", "fit_weight_model"]

SCALES = 6
_UNIT = 256
_SIXTEENTHS = 16
_RANGE = 40
_RIDGE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightModel:
    """Integer predictors of all heads of all layers, and which frequency table each uses.

    ``coefficients`` int32 [heads, 4], ``start`` int8 [heads], ``scale`` uint8 [heads] below ``len(tables)``.
    """

    coefficients: NDArray[np.int32]
    start: NDArray[np.int8]
    scale: NDArray[np.uint8]
    tables: tuple[FrequencyTable, ...]


def fit_weight_model(samples: Sequence[Sequence[NDArray[np.int8]]]) -> WeightModel:
    """Least squares per head over ``samples``: for each context, the weights of every layer, int8 [heads, tokens]."""
    layers = len(samples[0])
    coefficients, starts, residuals = [], [], []
    for layer in range(layers):
        for head in range(samples[0][layer].shape[0]):
            start = int(np.round(np.mean([np.mean(sample[layer][head]) for sample in samples])))
            rows = [_regressors(sample, layer, head, start) for sample in samples]
            inputs = np.concatenate([row[0] for row in rows]).astype(np.float64)
            target = np.concatenate([row[1] for row in rows]).astype(np.float64)
            own = _least_squares(inputs, target)
            coefficients.append(own)
            starts.append(start)
            errors = target - (inputs.astype(np.int64) @ own >> 8)
            residuals.append(errors.astype(np.int64))
    spread = np.array([np.mean(np.abs(errors)) for errors in residuals])
    edges = np.quantile(spread, np.arange(1, SCALES) / SCALES)
    scale = np.searchsorted(edges, spread).astype(np.uint8)
    tables = tuple(
        _table([errors for errors, own in zip(residuals, scale, strict=True) if own == number])
        for number in range(SCALES)
    )
    return WeightModel(
        coefficients=np.asarray(coefficients, np.int32),
        start=np.asarray(starts, np.int8),
        scale=scale,
        tables=tables,
    )


def encode_weights(weights: Sequence[NDArray[np.int8]], model: WeightModel) -> tuple[bytes, float]:
    """All layers of a token chunk, int8 [heads, tokens] each; also the ideal code length in bits."""
    errors = []
    first = 0
    for layer, own in enumerate(weights):
        for head in range(own.shape[0]):
            inputs, target = _regressors(weights, layer, head, int(model.start[first + head]))
            errors.append(target - (inputs @ model.coefficients[first + head].astype(np.int64) >> 8))
        first += own.shape[0]
    joined, index = np.concatenate(errors), _table_index(weights, model)
    ideal = sum(table.code_length_bits(joined[index == number]) for number, table in enumerate(model.tables))
    return encode_symbols(joined, model.tables, index), ideal


def decode_weights(data: bytes, shapes: Sequence[tuple[int, int]], model: WeightModel) -> list[NDArray[np.int8]]:
    """Invert :func:`encode_weights`; ``shapes`` are (heads, tokens) of each layer.

    Raises :class:`CorruptFile` when the stream is malformed or a weight leaves its range.
    """
    from .weight_reconstruction import restore

    errors = _decode_errors(data, np.array([tokens for heads, tokens in shapes for _ in range(heads)]), model)
    weights: list[NDArray[np.int8]] = []
    position = first = 0
    for heads, tokens in shapes:
        means = _means(weights[-1], tokens) if weights else np.zeros(tokens, np.int64)
        restored = np.empty((heads, tokens), np.int64)
        rows = slice(first, first + heads)
        restore(
            errors[position : position + heads * tokens].reshape(heads, tokens),
            means,
            model.coefficients[rows].astype(np.int64),
            model.start[rows].astype(np.int64),
            restored,
        )
        if restored.size and not MIN_WEIGHT <= restored.min() <= restored.max() <= MAX_WEIGHT:
            raise CorruptFile("token weights leave their range; the weight chunk is damaged")
        weights.append(restored.astype(np.int8))
        position += heads * tokens
        first += heads
    return weights


def _decode_errors(data: bytes, tokens: NDArray[np.int64], model: WeightModel) -> NDArray[np.int64]:
    """The errors of every head, ``tokens`` of each; the stream has them table by table."""
    decoder = AnsDecoder(data)
    ends = np.cumsum(tokens)
    errors = np.empty(int(ends[-1]), np.int64)
    for number, table in enumerate(model.tables):
        heads = np.flatnonzero(model.scale == number)
        values = decoder.decode(table, int(tokens[heads].sum()))
        first = 0
        for head in heads.tolist():
            last = first + int(tokens[head])
            errors[ends[head] - tokens[head] : ends[head]] = values[first:last]
            first = last
    decoder.finish()
    return errors


def _regressors(
    weights: Sequence[NDArray[np.int8]], layer: int, head: int, start: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    target = weights[layer][head].astype(np.int64)
    tokens = target.size
    means = _means(weights[layer - 1], tokens) if layer else np.zeros(tokens, np.int64)
    columns = [
        np.concatenate([[start], target])[:tokens],
        means,
        np.concatenate([means[:1], means])[:tokens],
        np.ones(tokens, np.int64),
    ]
    return np.stack(columns, axis=1), target


def _means(weights: NDArray[np.int8], tokens: int) -> NDArray[np.int64]:
    """The mean over heads in sixteenths, aligned at the end where a sliding window has dropped tokens."""
    sums = weights.astype(np.int64).sum(axis=0) * _SIXTEENTHS // weights.shape[0]
    aligned = np.zeros(tokens, np.int64)
    count = min(tokens, sums.size)
    if count:
        aligned[tokens - count :] = sums[sums.size - count :]
    return aligned


def _least_squares(inputs: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.int64]:
    # drawn towards "as the token before", which is all that a handful of tokens supports
    towards = np.array([1.0, 0.0, 0.0, 0.0])
    squares = inputs.T @ inputs
    ridge = _RIDGE * np.diag([1.0, _SIXTEENTHS**2, _SIXTEENTHS**2, 1.0])
    solved = towards + np.linalg.solve(squares + ridge, inputs.T @ (target - inputs @ towards))
    scaled = np.round(solved * _UNIT).astype(np.int64)
    scaled[3] += _UNIT // 2  # the shift rounds down
    clipped: NDArray[np.int64] = np.clip(scaled, -(1 << 20), 1 << 20)
    return clipped


def _table(errors: list[NDArray[np.int64]]) -> FrequencyTable:
    joined = np.concatenate([np.zeros(0, np.int64), *errors])
    inside = joined[np.abs(joined) <= _RANGE] + _RANGE
    counts = np.bincount(inside, minlength=2 * _RANGE + 1) * 16 + 1
    reach = int(np.abs(joined).max(initial=1)) + 1
    kept = counts[max(_RANGE - reach, 0) : _RANGE + reach + 1]
    escapes = int((np.abs(joined) > _RANGE).sum()) * 16 + 1
    return FrequencyTable.from_counts(np.append(kept, escapes), minimum=-min(reach, _RANGE), escape=True)


def _table_index(weights: Sequence[NDArray[np.int8]], model: WeightModel) -> NDArray[np.int64]:
    tokens = np.concatenate([np.full(own.shape[0], own.shape[1]) for own in weights])
    return np.repeat(model.scale.astype(np.int64), tokens)
