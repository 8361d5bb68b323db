"""A model learned from the cache that is being encoded, and its form in the file: for caches without a profile.

Without gradients nothing is known of what an error costs, so each part of each layer is scaled to unit power. Long
caches pay for a transform that decorrelates the channels of each head; short ones keep their channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.frequency_table import FrequencyTable
from ...entropy.table_format import read_table
from ...formats.errors import CorruptFile, InvalidParameter
from .cache_model import MAGNITUDES, CacheModel, PartModel
from .integer_fields import append_integers, read_integers
from .quantisation import quantise
from .sensitivity import SINK_TOKENS
from .symbols import CLASSES, class_numbers, histogram, scale_indices, step_sizes, tables_of_histogram
from .weight_stream import SCALES, WeightModel, fit_weight_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .cache import CacheTable
    from .symbol_block import SymbolDecoder

__all__ = ["SelfModel", "learn_model", "read_model", "write_model"]

# At quality 60 a token of typical weight, 2**-11, has a step of 2**-4.5, this share of a part's root mean square.
_STEP_SHARE = 0.35
_UNIT = 2.0**-4.5 / _STEP_SHARE
_TRANSFORM_STEP = 6 / 127
_SHIFT_UNIT = 1 / 256
# Statistics come from at most so many values of a part, but at least from so many tokens: a bound on memory.
_SAMPLE_VALUES = 1 << 19
_LEAST_SAMPLE_TOKENS = 512
_LEAST_SHARE = 2.0**-12
TRANSFORM_TOKENS = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfModel:
    """A cache model with its tables, and the integers it is made of."""

    model: CacheModel
    tables: tuple[FrequencyTable, ...]
    weights: WeightModel
    numbers: tuple[_PartNumbers, ...]

    @property
    def decoder(self) -> SymbolDecoder:
        """A decoder for ``tables``; raises :class:`CorruptFile` where they are not what an encoder writes."""
        from .symbol_block import SymbolDecoder  # compiles or loads native code

        try:
            return SymbolDecoder(self.tables)
        except InvalidParameter as error:
            raise CorruptFile(f"cache model: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _PartNumbers:
    """What the file stores of a part.

    ``mean`` uint16 bfloat16 bits [heads, width]; ``power`` int, sixths of an octave of the part's root mean square;
    ``transform`` int [heads, width, width] in units of ``_TRANSFORM_STEP``, or None for none; ``scales`` int16.
    """

    mean: NDArray[np.uint16]
    power: int
    transform: NDArray[np.int64] | None
    scales: NDArray[np.int16]


def learn_model(
    table: CacheTable,
    read_part: Callable[[int, int], NDArray[np.float32]],
    weights: Sequence[NDArray[np.int8]],
    quality: int,
    *,
    transform: bool,
) -> SelfModel:
    """Learn from the parts that ``read_part(layer, part)`` returns: float32 [tokens, heads, width] before RoPE."""
    shifts = np.zeros((CLASSES, MAGNITUDES), np.float32)
    counts: Any = 0
    sums = np.zeros(CLASSES * MAGNITUDES)
    sizes = np.zeros(CLASSES * MAGNITUDES)
    numbers, layers = [], []
    for layer, row in enumerate(table.layers):
        parts = []
        for part in range(len(row.parts)):
            values, chosen = _sample(read_part(layer, part), weights[layer])
            own = _part_numbers(values, transform)
            model = _part_model(own)
            coefficients = np.einsum("thi,hij->thj", values - model.mean, model.analysis, optimize=True)
            ordinary = coefficients[min(SINK_TOKENS, len(coefficients) - 1) :]
            scales = scale_indices(np.sqrt(np.square(ordinary).mean(axis=0)))
            own = _PartNumbers(mean=own.mean, power=own.power, transform=own.transform, scales=scales)
            classes = class_numbers(scales, chosen, quality)
            symbols = np.empty(coefficients.shape, np.int32)
            steps = step_sizes(chosen, quality)
            quantise(coefficients, np.zeros_like(coefficients), classes, steps, shifts, symbols)
            counts = counts + histogram(symbols, classes)
            magnitudes = np.abs(symbols)
            excess = magnitudes - np.abs(coefficients) / steps.T[:, :, None]
            index = (classes.astype(np.int64) * MAGNITUDES + np.minimum(magnitudes, 3)).ravel()
            sums += np.bincount(index, weights=excess.ravel(), minlength=sums.size)
            sizes += np.bincount(index, minlength=sizes.size)
            numbers.append(own)
            parts.append(_part_model(own))
        layers.append(tuple(parts))
    found = (sums / (sizes + 50)).reshape(CLASSES, MAGNITUDES)
    found[:, 0] = 0
    rounded = np.round(np.clip(found, -0.5, 0.5) / _SHIFT_UNIT) * _SHIFT_UNIT
    return SelfModel(
        model=CacheModel(parts=tuple(layers), reach=0, intra_every=0, shifts=rounded.astype(np.float32)),
        tables=tables_of_histogram(counts),
        weights=fit_weight_model([list(weights)]),
        numbers=tuple(numbers),
    )


def write_model(model: SelfModel) -> bytes:
    """The payload of a model chunk."""
    out = bytearray([1 if model.numbers[0].transform is not None else 0])
    append_integers(out, np.array([own.power for own in model.numbers]))
    for own in model.numbers:
        out += own.mean.astype("<u2").tobytes()
    append_integers(out, np.concatenate([own.scales.ravel() for own in model.numbers]))
    transforms = [own.transform.ravel() for own in model.numbers if own.transform is not None]
    if transforms:
        append_integers(out, np.concatenate(transforms))
    append_integers(out, np.round(model.model.shifts / _SHIFT_UNIT))
    append_integers(out, model.weights.coefficients)
    append_integers(out, model.weights.start)
    append_integers(out, model.weights.scale)
    for table in (*model.tables, *model.weights.tables):
        out += table.to_bytes()
    return bytes(out)


def read_model(data: bytes, table: CacheTable) -> SelfModel:
    """Invert :func:`write_model` for a cache like ``table``; raises :class:`CorruptFile`."""
    what = "cache model"
    rows = [part for layer in table.layers for part in layer.parts]
    channels = [part.channels for part in rows]
    heads = sum(layer.parts[0].heads for layer in table.layers)
    if not data or data[0] > 1:
        raise CorruptFile(f"{what}: it does not begin with a known form")
    powers, position = read_integers(data, 1, len(rows), what)
    mean_bytes = 2 * sum(channels)
    if position + mean_bytes > len(data):
        raise CorruptFile(f"{what}: the data end inside the means")
    means = np.frombuffer(data, "<u2", sum(channels), position)
    scales, position = read_integers(data, position + mean_bytes, sum(channels), what)
    if np.abs(scales).max() >= 1 << 15 or np.abs(powers).max() >= 1 << 10:
        raise CorruptFile(f"{what}: a scale is out of range")
    sizes = [part.heads * part.width**2 for part in rows]
    transforms = np.zeros(0, np.int64)
    if data[0]:
        transforms, position = read_integers(data, position, sum(sizes), what)
    shifts, position = read_integers(data, position, CLASSES * MAGNITUDES, what)
    coefficients, position = read_integers(data, position, heads * 4, what)
    start, position = read_integers(data, position, heads, what)
    scale, position = read_integers(data, position, heads, what)
    if (
        np.abs(coefficients).max() >= 1 << 21
        or np.abs(start).max() >= 128
        or not (0 <= scale.min() <= scale.max() < SCALES)
    ):
        raise CorruptFile(f"{what}: the predictor of token weights is out of range")
    tables: list[FrequencyTable] = []
    for _ in range(CLASSES + SCALES):
        item, position = read_table(data, position)
        tables.append(item)
    if position != len(data):
        raise CorruptFile(f"{what}: {len(data) - position} bytes left over")
    numbers = []
    first = first_entry = 0
    for index, part in enumerate(rows):
        kept = slice(first, first + channels[index])
        entries = slice(first_entry, first_entry + sizes[index])
        shape = (part.heads, part.width)
        numbers.append(
            _PartNumbers(
                mean=means[kept].reshape(shape),
                power=int(powers[index]),
                transform=transforms[entries].reshape(*shape, part.width) if data[0] else None,
                scales=scales[kept].reshape(shape).astype(np.int16),
            )
        )
        first, first_entry = kept.stop, entries.stop
    parts = iter([_part_model(own) for own in numbers])
    return SelfModel(
        model=CacheModel(
            parts=tuple(tuple(next(parts) for _ in layer.parts) for layer in table.layers),
            reach=0,
            intra_every=0,
            shifts=(shifts.reshape(CLASSES, MAGNITUDES) * _SHIFT_UNIT).astype(np.float32),
        ),
        tables=tuple(tables[:CLASSES]),
        weights=WeightModel(
            coefficients=coefficients.reshape(heads, 4).astype(np.int32),
            start=start.astype(np.int8),
            scale=scale.astype(np.uint8),
            tables=tuple(tables[CLASSES:]),
        ),
        numbers=tuple(numbers),
    )


def _sample(values: NDArray[np.float32], weights: NDArray[np.int8]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    most = max(_SAMPLE_VALUES // values[0].size, _LEAST_SAMPLE_TOKENS)
    if len(values) <= most:
        return np.ascontiguousarray(values), weights
    chosen = np.linspace(0, len(values) - 1, most).astype(np.int64)
    return values[chosen], weights[:, chosen]


def _part_numbers(values: NDArray[np.float32], transform: bool) -> _PartNumbers:
    ordinary = values[min(SINK_TOKENS, len(values) - 1) :]
    bits = np.ascontiguousarray(ordinary.mean(axis=0)).view(np.uint32) >> np.uint32(16)
    mean = bits.astype(np.uint16)
    centred = ordinary - _from_bits(mean)
    power = float(np.sqrt(np.square(centred, dtype=np.float32).mean(dtype=np.float64)))
    # tokens unlike the ordinary ones must not be quantised absurdly finely where the ordinary ones hardly vary
    power = max(power, _LEAST_SHARE * float(np.abs(values).max()))
    entries = None
    if transform:
        turned = centred.transpose(1, 2, 0)
        vectors = np.linalg.eigh((turned @ turned.transpose(0, 2, 1)).astype(np.float64))[1]
        entries = np.round(vectors / _TRANSFORM_STEP).astype(np.int64)
    return _PartNumbers(
        mean=mean,
        power=int(np.round(6 * np.log2(max(power, 2.0**-40)))),
        transform=entries,
        scales=np.zeros(values.shape[1:], np.int16),
    )


def _part_model(own: _PartNumbers) -> PartModel:
    heads, width = own.mean.shape
    scale = _UNIT / np.exp2(own.power / 6)
    if own.transform is None:
        inverse = np.tile(np.eye(width), (heads, 1, 1))
    else:
        basis = own.transform * _TRANSFORM_STEP
        try:
            inverse = np.linalg.inv(basis)
        except np.linalg.LinAlgError as error:
            raise CorruptFile("cache model: a transform cannot be inverted") from error
    return PartModel(
        mean=_from_bits(own.mean),
        synthesis=(inverse / scale).astype(np.float32),
        scales=own.scales,
        predictor=None,
    )


def _from_bits(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
