"""Calibrating a profile: sensitivities, Fisher-weighted transforms, closed-loop predictors, scales and tables.

The loss of a model that reads a slightly wrong cache is quadratic in the error, with the Fisher information of its
predictions as the metric; labels drawn from the model itself give unbiased gradients. Transforms whiten that metric per
head, so that equal steps cost equal loss, and then decorrelate what the predictor leaves. Predictors are fitted layer
by layer on what a decoder will have: the quantised layers before, not the originals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter
from .cache_model import MAGNITUDES, CacheModel, PartModel, Predictor, history_layers
from .predictor_fitting import reduced_rank, rotation
from .profile import Profile, rounded_predictor, rounded_synthesis
from .quantisation import quantise
from .sensitivity import DISTANCE_EDGES, SINK_TOKENS, Sensitivity, distance_buckets, token_weights
from .symbols import CLASSES, class_numbers, histogram, scale_indices, step_sizes, tables_of_histogram
from .weight_stream import fit_weight_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .cache import CacheTable

    Floats = NDArray[np.float32]

__all__ = ["CalibrationSample", "calibrate", "measure_sensitivity"]

_FISHER_FLOOR = 0.02
# Beyond this distance from the end, attention mass alone says how much a token matters.
_SETTLED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSample:
    """One context: per layer and part float32 [tokens, heads, width] before RoPE, and the gradients of the loss there.

    ``mass`` is float32 [heads, tokens] per layer.
    """

    parts: tuple[tuple[Floats, ...], ...]
    gradients: tuple[tuple[Floats, ...], ...]
    mass: tuple[Floats, ...]


def calibrate(
    samples: Sequence[CalibrationSample],
    table: CacheTable,
    *,
    quality: int,
    reach: int = 1,
    rank: int = 32,
    intra_every: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Profile:
    """A profile for caches like ``table`` (whose tokens are those of every sample).

    Args:
        quality: the quality the closed loop is fitted at; neighbouring qualities work nearly as well.
        reach: how many earlier layers a predictor sees.
        rank: the rank of the predictors.
        intra_every: a layer without prediction every so many layers; 0 for the first only.
        progress: called with the number of each finished layer.
    """
    if not samples:
        raise InvalidParameter("calibration needs at least one context")
    sensitivity = measure_sensitivity(samples, table)
    weights = [token_weights(table, sensitivity, sample.mass) for sample in samples]
    fitted = _Fit(samples, table, weights, quality, reach, rank, intra_every)
    for layer in range(len(table.layers)):
        fitted.fit_layer(layer)
        if progress is not None:
            progress(layer)
    return Profile(
        table=table,
        model=fitted.model(),
        tables=tables_of_histogram(fitted.counts),
        weights=fit_weight_model(weights),
        sensitivity=sensitivity,
        quality=quality,
    )


def measure_sensitivity(samples: Sequence[CalibrationSample], table: CacheTable) -> Sensitivity:
    """Fit energy against attention mass and distance from the end, from the gradients of ``samples``."""
    buckets = distance_buckets(table.tokens)
    settled = np.asarray(DISTANCE_EDGES)[buckets] >= _SETTLED
    ordinary = np.arange(table.tokens) >= SINK_TOKENS
    if not (settled & ordinary).any():
        raise InvalidParameter(
            f"contexts of {table.tokens} tokens are too short to calibrate on; use at least {4 * _SETTLED}"
        )
    energies, masses, sinks = [], [], []
    for layer in range(len(table.layers)):
        mass = np.mean([sample.mass[layer] for sample in samples], axis=0)
        per_part = []
        for part in range(len(table.layers[layer].parts)):
            squares = np.mean(
                [np.square(sample.gradients[layer][part]) for sample in samples], axis=0, dtype=np.float32
            )
            scale = squares[settled & ordinary].mean(axis=0) + np.float32(1e-30)
            energy = (squares / scale).mean(axis=2).T  # [heads, tokens]
            reference = mass[:, settled & ordinary].mean(axis=1, keepdims=True)
            per_part.append(energy * reference)
        energies.append(np.mean(per_part, axis=0))
        sinks.append(np.max(per_part, axis=0)[:, :SINK_TOKENS])
        masses.append(mass)
    energy, mass = np.concatenate(energies), np.concatenate(masses)
    counts = len(DISTANCE_EDGES)
    gain = np.ones(counts, np.float32)
    floor = np.zeros((len(energy), counts), np.float32)
    mean_mass = np.zeros((len(energy), counts), np.float32)
    for bucket, edge in enumerate(DISTANCE_EDGES):
        chosen = (buckets == bucket) & ordinary
        if not chosen.any():
            continue
        mean_mass[:, bucket] = mass[:, chosen].mean(axis=1)
        if edge < _SETTLED:
            floor[:, bucket] = energy[:, chosen].mean(axis=1)
        else:
            gain[bucket] = min(1.0, energy[:, chosen].mean() / mass[:, chosen].mean())
    # single heads are noisy: half of what they say, half a common shape at their own level
    shape = floor.mean(axis=0)
    level = floor.sum(axis=1, keepdims=True) / max(float(shape.sum()), 1e-30)
    sink = np.zeros((len(energy), SINK_TOKENS), np.float32)
    found = np.concatenate(sinks)
    sink[:, : found.shape[1]] = found
    return Sensitivity(
        gain=gain,
        floor=((floor + level * shape) / 2).astype(np.float32),
        mean_mass=mean_mass,
        sink=sink,
    )


class _Fit:
    """The closed loop over all samples while its model is being built."""

    def __init__(
        self,
        samples: Sequence[CalibrationSample],
        table: CacheTable,
        weights: Sequence[Sequence[NDArray[np.int8]]],
        quality: int,
        reach: int,
        rank: int,
        intra_every: int,
    ) -> None:
        self._samples = samples
        self._table = table
        self._weights = weights
        self._quality = quality
        self._reach = reach
        self._rank = rank
        self._intra_every = intra_every
        self._parts: list[tuple[PartModel, ...]] = []
        # per sample and layer: decoded coefficients [tokens, channels]
        self._decoded: list[dict[int, Floats]] = [{} for _ in samples]
        self.counts = np.zeros((CLASSES, histogram_width()), np.int64)
        self._shift_sums = np.zeros((CLASSES, MAGNITUDES))
        self._shift_counts = np.zeros((CLASSES, MAGNITUDES))

    def model(self) -> CacheModel:
        return CacheModel(
            parts=tuple(self._parts),
            reach=self._reach,
            intra_every=self._intra_every,
            shifts=self._shifts(),
        )

    def fit_layer(self, layer: int) -> None:
        found: list[list[Floats]] = [[] for _ in self._samples]
        parts = range(len(self._table.layers[layer].parts))
        self._parts.append(tuple([self._fit_part(layer, part, found) for part in parts]))
        for store, own in zip(self._decoded, found, strict=True):
            store[layer] = np.concatenate(own, axis=1)
            store.pop(layer - self._reach, None)

    def _fit_part(self, layer: int, part: int, found: list[list[Floats]]) -> PartModel:
        values = [sample.parts[layer][part] for sample in self._samples]
        tokens, heads, width = values[0].shape
        ordinary = slice(min(SINK_TOKENS, tokens - 1), None)
        mean = np.mean([v[ordinary].mean(axis=0) for v in values], axis=0).astype(np.float32)
        whitening = self._whitening(layer, part)
        white = [np.einsum("thi,hij->thj", v - mean, whitening, optimize=True) for v in values]
        history = self._history(layer, found)
        target = np.concatenate([w[ordinary].reshape(-1, heads * width) for w in white])
        errors, solution = target, None
        if history is not None:
            inputs = np.concatenate([h[ordinary] for h in history])
            solution = reduced_rank(inputs, target, self._rank)
            errors = target - inputs @ solution[0] @ solution[1]
        basis = rotation(errors.reshape(-1, heads, width))
        synthesis = rounded_synthesis(np.linalg.inv((whitening @ basis).astype(np.float64)))
        analysis = np.linalg.inv(synthesis.astype(np.float64)).astype(np.float32)
        predictor: Predictor | None = None
        if solution is not None:
            up = solution[1].reshape(-1, heads, width)
            turned = np.einsum("rhi,hij->rhj", up, basis, optimize=True)
            predictor = rounded_predictor(solution[0], turned.reshape(len(up), -1).astype(np.float32))
        coefficients = [np.einsum("thi,hij->thj", v - mean, analysis, optimize=True) for v in values]
        predictions = [
            np.zeros((tokens, heads, width), np.float32)
            if predictor is None or history is None
            else (history[n] @ predictor.down @ predictor.up).reshape(tokens, heads, width)
            for n in range(len(values))
        ]
        residual = np.concatenate([(c - p)[ordinary] for c, p in zip(coefficients, predictions, strict=True)])
        scales = scale_indices(np.sqrt(np.square(residual).mean(axis=0)))
        self._close_loop(layer, coefficients, predictions, scales, found)
        return PartModel(mean=mean, synthesis=synthesis, scales=scales, predictor=predictor)

    def _close_loop(
        self,
        layer: int,
        coefficients: list[Floats],
        predictions: list[Floats],
        scales: NDArray[np.int16],
        found: list[list[Floats]],
    ) -> None:
        """Quantise as the encoder will, and gather statistics; ``predictions`` become reconstructions."""
        shifts = self._shifts()
        for number, (own, predicted) in enumerate(zip(coefficients, predictions, strict=True)):
            weights = self._weights[number][layer]
            classes = class_numbers(scales, weights, self._quality)
            steps = step_sizes(weights, self._quality)
            symbols = np.empty(own.shape, np.int32)
            before = predicted.copy()
            quantise(own, predicted, classes, steps, shifts, symbols)
            self.counts += histogram(symbols, classes)
            magnitudes = np.abs(symbols)
            normal = np.abs(own - before) / steps.T[:, :, None]
            index = (classes.astype(np.int64) * MAGNITUDES + np.minimum(magnitudes, 3)).ravel()
            size = CLASSES * MAGNITUDES
            self._shift_sums += np.bincount(index, weights=(magnitudes - normal).ravel(), minlength=size).reshape(
                CLASSES, MAGNITUDES
            )
            self._shift_counts += np.bincount(index, minlength=size).reshape(CLASSES, MAGNITUDES)
            found[number].append(predicted.reshape(len(predicted), -1))

    def _shifts(self) -> Floats:
        shifts = self._shift_sums / (self._shift_counts + 50)
        shifts[:, 0] = 0
        clipped: Floats = np.clip(shifts, -0.5, 0.5).astype(np.float32)
        return clipped

    def _history(self, layer: int, found: list[list[Floats]]) -> list[Floats] | None:
        earlier = history_layers(layer, reach=self._reach, intra_every=self._intra_every)
        if not earlier and not found[0]:
            return None
        return [
            np.concatenate([*(store[number] for number in earlier), *own], axis=1)
            for store, own in zip(self._decoded, found, strict=True)
        ]

    def _whitening(self, layer: int, part: int) -> Floats:
        """The square root of the Fisher information of each head, [heads, width, width]."""
        total: Any = 0.0
        for sample, weights in zip(self._samples, self._weights, strict=True):
            gradients = sample.gradients[layer][part]
            ordinary = slice(min(SINK_TOKENS, len(gradients) - 1), None)
            scaled = gradients * np.exp2(-weights[layer].T[:, :, None] / 2).astype(np.float32)
            kept = scaled[ordinary].transpose(1, 2, 0)  # heads, width, tokens
            total = total + (kept @ kept.transpose(0, 2, 1)).astype(np.float64) / kept.shape[2]
        fisher = total / len(self._samples)
        width = fisher.shape[-1]
        level = np.trace(fisher, axis1=1, axis2=2)[:, None, None] / width
        values, vectors = np.linalg.eigh(fisher + (_FISHER_FLOOR * level + 1e-30) * np.eye(width))
        roots = np.sqrt(np.maximum(values, 0.0))[:, None, :]
        whitening: Floats = ((vectors * roots) @ vectors.transpose(0, 2, 1)).astype(np.float32)
        return whitening


def histogram_width() -> int:
    """Columns of :func:`codeckit.codecs.kv.symbols.histogram`."""
    from .symbols import MAX_MAGNITUDE

    return 2 * MAX_MAGNITUDE + 2
