"""CacheGen's statistics: a step per layer, and per channel a centre and one of a few frequency tables.

The paper keeps a distribution for every layer and channel. Here every channel has a centre of its own and the table
that codes it best out of :data:`CLASSES`, which are found together: tables from the channels that use them, channels
to the tables that suit them. That loses little rate and makes the tables of a cache some thousands of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.class_lanes import check_class_tables
from ...entropy.frequency_table import FrequencyTable
from ...entropy.table_format import read_table
from ...formats.errors import CorruptFile, InvalidParameter
from .cachegen_loops import count_slots
from .cachegen_quantiser import delta_step, quantise_deltas, quantise_maxima
from .integer_fields import append_integers, read_integers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = [
    "CLASSES",
    "CacheGenTables",
    "ChannelTables",
    "PartTables",
    "build_tables",
    "read_tables",
    "write_tables",
]

CLASSES = 48
_LOWEST, _HIGHEST = -127, 126
_SLOTS = _HIGHEST - _LOWEST + 2  # the last one counts escapes
_ROUNDS = 4
_PRIOR = 20.0
_LEAST_SHARE = 0.5 / 4096
_PUBLISHED_BINS = (12, 16, 32)
_MAX_CENTRE = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTables:
    """Per channel: the symbol in the middle, int16 [channels], and the number of its table, uint8 [channels]."""

    centres: NDArray[np.int16]
    classes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTables:
    """Of one part of one layer: the delta step, or the bins of the published code, and the tables of its channels.

    The published code has no ``anchors``, and its only symbols are those of ``others``.
    """

    step: float
    anchors: ChannelTables | None
    others: ChannelTables


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGenTables:
    """Every part in file order; ``level`` as in the codec's parameters, 0 for the published code."""

    parts: tuple[PartTables, ...]
    tables: tuple[FrequencyTable, ...]
    level: int


def build_tables(
    parts: Iterable[Sequence[Floats]], count: int, layers: int, *, level: int, bins: Sequence[int] | None = None
) -> CacheGenTables:
    """Tables from ``count`` parts in file order, each with its float32 [tokens, channels] of one or more caches.

    ``bins`` per part selects the published code's quantiser, else the paper's with ``level`` thousandths. Parts are
    looked at one by one.
    """
    steps: list[float] = []
    channels: list[_ChannelCounts] = []
    for number, values in enumerate(parts):
        if bins is not None:
            steps.append(float(bins[number]))
            channels.append(_count([quantise_maxima(v, bins[number])[0] for v in values]))
            continue
        step = max(delta_step(number * layers // count, layers, level / 1000) * _deviation(values), 1e-20)
        steps.append(float(np.float32(step)))
        coded = [quantise_deltas(v, steps[-1]) for v in values]
        channels += [_count([anchors for anchors, _, _ in coded]), _count([deltas for _, deltas, _ in coded])]
    found, tables = _cluster(channels)
    own = iter(found)
    result = [
        PartTables(step=step, anchors=None if bins is not None else next(own), others=next(own)) for step in steps
    ]
    return CacheGenTables(parts=tuple(result), tables=tables, level=0 if bins is not None else level)


def write_tables(tables: CacheGenTables) -> bytes:
    """The tables as bytes, for a chunk or a profile."""
    out = bytearray()
    append_varint(out, tables.level)
    append_varint(out, len(tables.parts))
    rows = _rows(tables.parts)
    for part in tables.parts:
        out += np.float32(part.step).astype("<f4").tobytes()
        append_varint(out, part.others.classes.size)
    append_integers(out, np.concatenate([row.centres for row in rows]))
    append_integers(out, np.concatenate([row.classes for row in rows]))
    for table in tables.tables:
        out += table.to_bytes()
    return bytes(out)


def read_tables(data: bytes) -> CacheGenTables:
    """Invert :func:`write_tables`; raises :class:`CorruptFile`."""
    what = "CacheGen tables"
    level, position = read_varint(data, 0, what)
    count, position = read_varint(data, position, what)
    steps, sizes = [], []
    kinds = 2 if level else 1
    for _ in range(count):
        if position + 4 > len(data):
            raise CorruptFile(f"{what}: the data end inside a step")
        step = float(np.frombuffer(data, "<f4", 1, position)[0])
        if not (np.isfinite(step) and step > 0) or (level == 0 and step not in _PUBLISHED_BINS):
            raise CorruptFile(f"{what}: a step is {step}")
        size, position = read_varint(data, position + 4, what)
        steps.append(step)
        sizes += [size] * kinds
    total = sum(sizes)
    centres, position = read_integers(data, position, total, what)
    classes, position = read_integers(data, position, total, what)
    if (
        np.abs(centres).max(initial=0) >= _MAX_CENTRE
        or not 0 <= classes.min(initial=0) <= classes.max(initial=0) < CLASSES
    ):
        raise CorruptFile(f"{what}: a centre or a class is out of range")
    found: list[FrequencyTable] = []
    for _ in range(CLASSES):
        table, position = read_table(data, position)
        found.append(table)
    if position != len(data):
        raise CorruptFile(f"{what}: {len(data) - position} bytes left over")
    try:
        check_class_tables(found)
    except InvalidParameter as error:
        raise CorruptFile(f"{what}: {error}") from error
    edges = np.cumsum(sizes)[:-1]
    rows = iter(
        ChannelTables(centres=a.astype(np.int16), classes=b.astype(np.uint8))
        for a, b in zip(np.split(centres, edges), np.split(classes, edges), strict=True)
    )
    parts = [PartTables(step=step, anchors=next(rows) if level else None, others=next(rows)) for step in steps]
    return CacheGenTables(parts=tuple(parts), tables=tuple(found), level=level)


def _rows(parts: Sequence[PartTables]) -> list[ChannelTables]:
    return [row for part in parts for row in (part.anchors, part.others) if row is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChannelCounts:
    """Centres int16 [channels], and how often each symbol occurs, less its centre: uint32 [channels, slots]."""

    centres: NDArray[np.int16]
    counts: NDArray[np.uint32]


def _deviation(values: Sequence[Floats]) -> float:
    """The root mean square of the channels' standard deviations."""
    joined = values[0] if len(values) == 1 else np.concatenate(values)
    return float(np.sqrt(joined.var(axis=0).mean()))


def _count(symbols: Sequence[NDArray[np.int32]]) -> _ChannelCounts:
    """Counts over arrays [samples, channels] of one part."""
    channels = symbols[0].shape[1]
    samples = sum(len(own) for own in symbols)
    limit = _MAX_CENTRE - 1
    means = sum(own.sum(axis=0, dtype=np.float64) for own in symbols) / max(samples, 1)
    centres = np.clip(np.round(means), -limit, limit).astype(np.int16)
    counts = np.zeros(channels * _SLOTS, np.uint32)
    for own in symbols:
        count_slots(own, centres, _LOWEST, _SLOTS, counts)
    return _ChannelCounts(centres=centres, counts=counts.reshape(channels, _SLOTS))


def _cluster(channels: Sequence[_ChannelCounts]) -> tuple[list[ChannelTables], tuple[FrequencyTable, ...]]:
    """Classes of the channels of all parts, and their tables."""
    magnitudes = np.abs(np.arange(_LOWEST, _HIGHEST + 1)).astype(np.float32)
    classes = []
    for own in channels:
        inside = own.counts[:, :-1]
        spread = (inside @ magnitudes) / np.maximum(inside.sum(axis=1), 1)
        # from 1/16 to 96 in equal ratios
        ratios = np.round((np.log2(spread + 1e-6) + 4) * (CLASSES - 1) / 10.6)
        classes.append(np.clip(ratios, 0, CLASSES - 1).astype(np.uint8))
    tables = _tables_of(channels, classes)
    for _ in range(_ROUNDS):
        costs = _costs(tables)
        classes = [(own.counts.astype(np.float32) @ costs).argmin(axis=1).astype(np.uint8) for own in channels]
        tables = _tables_of(channels, classes)
    rows = [ChannelTables(centres=own.centres, classes=chosen) for own, chosen in zip(channels, classes, strict=True)]
    return rows, tables


def _tables_of(channels: Sequence[_ChannelCounts], classes: Sequence[NDArray[np.uint8]]) -> tuple[FrequencyTable, ...]:
    sums = np.zeros((CLASSES, _SLOTS))
    for own, chosen in zip(channels, classes, strict=True):
        for number in np.unique(chosen).tolist():
            sums[number] += own.counts[chosen == number].sum(axis=0, dtype=np.float64)
    return tuple(_table(row) for row in sums)


def _table(counts: NDArray[np.float64]) -> FrequencyTable:
    """The counts with a geometric prior of the same spread; what is rarer than half a 4096th escapes."""
    values = np.arange(_LOWEST, _HIGHEST + 1)
    inside = counts[:-1]
    mean = float((inside * np.abs(values)).sum()) / max(float(inside.sum()), 1.0) + 0.02
    prior = (mean / (1 + mean)) ** np.abs(values)
    shares = (inside + _PRIOR * prior / prior.sum()) / (float(counts.sum()) + _PRIOR)
    kept = np.flatnonzero(shares >= _LEAST_SHARE)
    first, last = min(int(kept[0]), -_LOWEST), max(int(kept[-1]), -_LOWEST)
    chosen = shares[first : last + 1]
    scaled = np.round(np.append(chosen, max(1.0 - chosen.sum(), 0.0)) * (1 << 40)).astype(np.int64)
    return FrequencyTable.from_counts(scaled, minimum=_LOWEST + first, escape=True, bits=12)


def _costs(tables: Sequence[FrequencyTable]) -> NDArray[np.float32]:
    """Bits of every symbol under every table, [slots, tables]; an escape costs its code too, about twice its log."""
    values = np.arange(_LOWEST, _HIGHEST + 1)
    costs = np.empty((_SLOTS, len(tables)), np.float32)
    for column, table in zip(costs.T, tables, strict=True):
        bits = 24 - np.log2(table.frequencies)
        outside = np.maximum(values - table.maximum, table.minimum - values)
        column[:-1] = bits[-1] + 2 * np.log2(np.maximum(outside, 1)) + 3
        column[table.minimum - _LOWEST : table.maximum - _LOWEST + 1] = bits[:-1]
        column[-1] = bits[-1] + 16
    return costs
