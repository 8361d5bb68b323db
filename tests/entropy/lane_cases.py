"""Lane blocks that every backend must agree on: ordinary, adversarial and degenerate ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codeckit.entropy import FrequencyTable
from codeckit.entropy.frequency_table import TOTAL


@dataclass(frozen=True)
class LaneCase:
    name: str
    values: Any
    tables: list[FrequencyTable]
    options: dict[str, Any] = field(default_factory=dict)


def even(slots: int, **options: Any) -> FrequencyTable:
    return FrequencyTable.from_counts(np.ones(slots, np.int64), **options)


def spike(slots: int, where: int, unit: int = 1) -> FrequencyTable:
    """All but the least possible mass on one slot."""
    frequencies = np.full(slots, unit, np.int64)
    frequencies[where] += TOTAL - slots * unit
    return FrequencyTable(frequencies)


def laplace(slots: int, scale: float, bits: int, **options: Any) -> FrequencyTable:
    counts = np.int64(1e9 * np.exp(-np.abs(np.arange(slots) - slots // 2) / scale))
    return FrequencyTable.from_counts(counts, bits=bits, **options)


def draw(rng: np.random.Generator, table: FrequencyTable, shape: Any) -> np.ndarray:
    """Values distributed as the table says."""
    quantiles = rng.integers(0, TOTAL, shape)
    return np.searchsorted(table.cumulative, quantiles, side="right") - 1 + table.minimum


def lane_cases() -> list[LaneCase]:
    rng = np.random.default_rng(5)
    cases = []
    for bits in (12, 24):
        table = laplace(256, 6, bits)
        cases.append(LaneCase(f"laplace-{bits}", draw(rng, table, (13, 500)).astype(np.uint8), [table]))
        signed = laplace(255, 3, bits, minimum=-127)
        cases.append(LaneCase(f"signed-{bits}", draw(rng, signed, (9, 100)).astype(np.int8), [signed]))
        large = laplace(4096, 90, bits, minimum=-2048)
        cases.append(LaneCase(f"4096-symbols-{bits}", draw(rng, large, (6, 333)), [large]))
        pair = [laplace(256, 2, bits), laplace(40, 9, bits, minimum=100), even(1, minimum=7), even(2)]
        classes = rng.integers(0, 4, 11)
        values = np.stack([draw(rng, pair[c], 77) for c in classes])
        cases.append(LaneCase(f"class-per-lane-{bits}", values, pair, {"classes": classes}))
        row = rng.integers(0, 4, (1, 20))
        columns = np.repeat(row[0], 5)[:97]
        values = np.stack([draw(rng, pair[c], 10) for c in columns], axis=1)
        cases.append(LaneCase(f"class-per-group-{bits}", values, pair, {"classes": row, "group_size": 5}))
        grid = rng.integers(0, 4, (10, 97))
        values = np.array([[draw(rng, pair[c], ()) for c in line] for line in grid])
        cases.append(LaneCase(f"class-per-symbol-{bits}", values, pair, {"classes": grid, "group_size": 1}))
        escaping = laplace(20, 2, bits, minimum=-9, escape=True)
        values = draw(rng, escaping, (7, 200))
        values[2, 5], values[4, :50], values[6, -1] = 10**12, -(2**40), -10
        cases.append(LaneCase(f"escapes-{bits}", values, [escaping]))
        ragged = [draw(rng, table, n) for n in (0, 1, 2, 900, 3, 0, 17, 900, 901, 0, 5)]
        cases.append(LaneCase(f"ragged-{bits}", ragged, [table]))
        shifted = [laplace(100, 5, bits, minimum=10**9), laplace(9, 5, bits, minimum=-5, escape=True)]
        classes = np.array([0, 1, 0, 1, 1])
        values = np.stack([draw(rng, shifted[c], 60) for c in classes])
        values[1, 7] = 10**15
        cases.append(LaneCase(f"far-apart-{bits}", values, shifted, {"classes": classes}))
    for where in (0, 1, 4095):
        table = spike(4096, where)
        likely = np.full((5, 3000), where)
        cases.append(LaneCase(f"nearly-certain-{where}", likely, [table]))
        cases.append(LaneCase(f"never-likely-{where}", rng.integers(0, 4096, (5, 100)), [table]))
    cases.append(LaneCase("aligned-frequency-one", np.arange(4096)[None].repeat(5, 0), [even(4096)]))
    cases.append(LaneCase("aligned-spike", rng.integers(0, 256, (6, 90)), [spike(256, 9, unit=4096)]))
    cases.append(LaneCase("certain", np.full((6, 1000), 3), [even(1, minimum=3)]))
    cases.append(LaneCase("one-symbol-lanes", rng.integers(0, 256, (10, 1)), [even(256)]))
    cases.append(LaneCase("empty-lanes", np.zeros((5, 0), np.int64), [even(256)]))
    cases.append(LaneCase("no-lanes", np.zeros((0, 9), np.int64), [even(256)]))
    cases.append(LaneCase("65536-symbols", rng.integers(0, 65536, (4, 300)), [even(65536)]))
    cases.append(LaneCase("one-lane", rng.integers(0, 3, (1, 300)), [even(3)]))
    return cases
