"""Numeric profiles: named, versioned recipes of exact arithmetic.

A file names the profile its tables were computed with, and a reader that does not have it refuses.
A profile computes its tables from fixed inputs in batches on some device; the SHA-256 of these
tables is recorded with it, and the conformance test compares every batch size, thread count and
device with that record. A codec adds its own profiles by passing them to :func:`require_profile`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..formats.errors import NumericProfileMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .exact.integer_linear import Accumulation

__all__ = ["BUILT_IN_PROFILES", "NumericProfile", "profile_digest", "require_profile", "seeded_integers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericProfile:
    """A recipe, and the digest that every conforming machine computes.

    ``compute(rows, device)`` returns int64 [len(rows), ...] for integers ``rows`` in
    ``0 .. row_count - 1``; the result of a row may depend on nothing but that row.
    """

    name: str
    row_count: int
    compute: Callable[[NDArray[np.int64], str], NDArray[np.int64]]
    digest: str


def require_profile(name: str, extra: Sequence[NumericProfile] = ()) -> NumericProfile:
    """The profile called ``name``, among the built-in ones and ``extra``.

    Raises:
        NumericProfileMismatch: this reader has no such profile.
    """
    known = {profile.name: profile for profile in (*BUILT_IN_PROFILES, *extra)}
    if name not in known:
        raise NumericProfileMismatch(
            f"the file needs the numeric profile {name!r}, this reader has {', '.join(sorted(known))}; "
            f"use a version of codeckit that has it"
        )
    return known[name]


def profile_digest(profile: NumericProfile, *, batch: int, device: str = "cpu") -> str:
    """SHA-256 over the tables of all rows, computed ``batch`` rows at a time on ``device``."""
    total = hashlib.sha256()
    for start in range(0, profile.row_count, batch):
        rows = np.arange(start, min(start + batch, profile.row_count))
        total.update(profile.compute(rows, device).astype("<i8").tobytes())
    return total.hexdigest()


def seeded_integers(seed: int, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.int64]:
    """Integers in ``low .. high`` from a 64-bit mixing function, the same in every version of everything.

    This is SplitMix64 (Steele, Lea and Flood 2014) over the flat index.
    """
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        mixed = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    values = (mixed >> np.uint64(1)).astype(np.int64) % (high - low + 1) + low
    return values.reshape(shape)


def _parametric_tables(rows: NDArray[np.int64], device: str) -> NDArray[np.int64]:
    """Rows 0..63 are Laplace and 64..127 Gaussian scales; the first 512 slots around zero of each."""
    from .parametric_tables import SCALE_COUNT, parametric_table

    out = np.zeros((rows.size, 513), np.int64)
    for line, row in zip(out, rows.tolist(), strict=True):
        table = parametric_table("laplace" if row < SCALE_COUNT else "gaussian", row % SCALE_COUNT)
        kept = min(table.maximum, 255)
        line[256 - kept : 257 + kept] = table.frequencies[-table.minimum - kept : -table.minimum + kept + 1]
        line[-1] = table.frequencies[-1]
    return out


def _dense_tables(rows: NDArray[np.int64], device: str) -> NDArray[np.int64]:
    """Convolution, linear layers in all three arithmetics, integer softmax, frequencies."""
    import torch

    from .exact.integer_linear import integer_conv2d, integer_linear, rescale
    from .exact.normalisation import normalise_scores, scores_of_logits

    def weights(seed: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(seeded_integers(seed, shape, -127, 127))

    pixels = torch.from_numpy(seeded_integers(1, (256, 3, 9, 9), -127, 127)[rows]).to(device)
    convolution = integer_conv2d(weights(2, 16, 3, 3, 3), weights(3, 16), input_limit=127, padding=1, stride=2)
    features = rescale(convolution(pixels), shift=9, limit=127).flatten(1)
    hidden = features
    arithmetics: tuple[Accumulation, ...] = ("int8", "float32", "float64")
    for seed, shift, arithmetic in zip((4, 5, 6), (11, 9, 10), arithmetics, strict=True):
        layer = integer_linear(weights(seed, 96, hidden.shape[1]), input_limit=127, accumulation=arithmetic)
        hidden = rescale(layer(hidden), shift=shift, limit=127)
    logits = integer_linear(weights(7, 64, 96), input_limit=127)(hidden) >> 6
    frequencies = normalise_scores(scores_of_logits(logits), bits=24)
    return np.asarray(frequencies.cpu().numpy(), np.int64)


def _recurrent_tables(rows: NDArray[np.int64], device: str) -> NDArray[np.int64]:
    """Twenty steps of a GRU, then frequencies at 16 bits."""
    import torch

    from .exact.integer_gru import integer_gru_cell
    from .exact.integer_linear import integer_linear, rescale
    from .exact.normalisation import normalise_scores, scores_of_logits

    def weights(seed: int, limit: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(seeded_integers(seed, shape, -limit, limit))

    cell = integer_gru_cell(
        weights(11, 127, 192, 24), weights(12, 127, 192, 64), weights(13, 9999, 192), weights(14, 9999, 192),
        weight_bits=8,
    )  # fmt: skip
    steps = torch.from_numpy(seeded_integers(15, (256, 20, 24), -127, 127)[rows]).to(device)
    state = cell.initial_state(len(rows), device)
    for step in steps.unbind(1):
        state = cell(step, state)
    logits = integer_linear(weights(16, 127, 32, 64), input_limit=127)(rescale(state, shift=8, limit=127)) >> 6
    return np.asarray(normalise_scores(scores_of_logits(logits), bits=16).cpu().numpy(), np.int64)


BUILT_IN_PROFILES = (
    NumericProfile(
        name="parametric-1",
        row_count=128,
        compute=_parametric_tables,
        digest="e57f5e5e4314eac7c1fee905c7ac6f7a99d6757fefcd1d2b605b298ea827066f",
    ),
    NumericProfile(
        name="dense-1",
        row_count=256,
        compute=_dense_tables,
        digest="8bd225c638828b2d0f7de49d3266299572fee2613a6e81fe1be7fe13afb072a0",
    ),
    NumericProfile(
        name="recurrent-1",
        row_count=256,
        compute=_recurrent_tables,
        digest="ea1b113adf70a74abca7d3e8db44d8dd78ecffc112a568e38d0bfaa78ce5193b",
    ),
)
