"""The per-image correction of means: a small linear filter, fitted by the encoder and sent in the file.

At the finest levels, each variable's mean gets a linear function of the 3x3 neighbours of every known plane (less the
block's base prediction), of the residuals of variables already coded in the block, and a constant. The fit weighs
blocks by the variance the network predicts. Coefficients are multiples of 1/256.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ...entropy.bit_io import BitReader, BitWriter, from_zigzag, to_zigzag
from ...formats.errors import CorruptFile
from .logistic_tables import FRACTION_BITS, LOG_SCALE_HIGH, LOG_SCALE_LOW
from .mixture_likelihood import parameter_count
from .pyramid_network import PLANES

__all__ = ["Correction", "applied", "fitted", "read_corrections", "write_corrections"]

_WINDOW = 3
_COEFFICIENT_BITS = 8
_COEFFICIENT_LIMIT = 511
"""Keeps ``sum(abs(coefficient)) * 510`` below ``2**24``, where float32 convolution is exact."""
_CONSTANT = 16
_RIDGE = 1e-3
_ORDER_BITS = 3
_SHIFT_TO_UNIT = FRACTION_BITS - _COEFFICIENT_BITS


@dataclass(frozen=True, eq=False, kw_only=True)
class Correction:
    """Integer ``filters`` ``[variables, inputs, 3, 3]``, ``constants`` and lower-triangular ``residuals``."""

    filters: NDArray[np.int64]
    constants: NDArray[np.int64]
    residuals: NDArray[np.int64]


def fitted(
    inputs: torch.Tensor,
    base: torch.Tensor,
    parameters: NDArray[np.int32],
    means: NDArray[np.int64],
    values: NDArray[np.int32],
    present: NDArray[np.bool_],
) -> Correction:
    """Weighted least squares of what the network's means still miss; floating point, for encoders only."""
    variables, channels = values.shape[1], inputs.shape[1]
    neighbours = _neighbours(inputs, base)
    constant = torch.full((len(neighbours), 1), float(_CONSTANT))
    residuals = torch.from_numpy(values.astype(np.float32) - means.astype(np.float32) / (1 << FRACTION_BITS))
    errors, variances = _mixture_errors(torch.from_numpy(parameters), residuals)
    weights = torch.from_numpy(present) / variances
    rows = []
    for variable in range(variables):
        features = torch.cat([neighbours, constant, residuals[:, :variable]], 1)
        weighted = features * weights[:, variable, None]
        gram = (weighted.T @ features).double()
        target = (weighted.T @ errors[:, variable]).double()
        gram += torch.eye(len(gram)) * (gram.diagonal().mean() * _RIDGE + 1e-6)
        solution = torch.linalg.solve(gram, target)
        scaled = torch.round(solution * (1 << _COEFFICIENT_BITS))
        rows.append(scaled.clamp(-_COEFFICIENT_LIMIT, _COEFFICIENT_LIMIT).to(torch.int64).numpy())
    count = neighbours.shape[1]
    lower = np.zeros((variables, variables), np.int64)
    for variable, row in enumerate(rows):
        lower[variable, :variable] = row[count + 1 :]
    filters = np.stack([row[:count] for row in rows]).reshape(variables, channels, _WINDOW, _WINDOW)
    return Correction(filters=filters, constants=np.array([row[count] for row in rows]), residuals=lower)


def applied(
    correction: Correction | None, inputs: torch.Tensor, base: torch.Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Exact shifts of the means, int64 ``[blocks, variables]``, and regression on residuals, both in ``2**-10``."""
    variables = base.shape[1]
    if correction is None:
        blocks = base.shape[2] * base.shape[3]
        return np.zeros((blocks, variables), np.int64), np.zeros((variables, variables), np.int64)
    filters = torch.from_numpy(correction.filters.astype(np.float32))
    padded = functional.pad(inputs, (1, 1, 1, 1), mode="replicate")
    sums = filters.sum((2, 3)).view(variables, -1, PLANES).sum(1)
    total = functional.conv2d(padded, filters) - functional.conv2d(base[:, :PLANES], sums[..., None, None])
    shifts = total.permute(0, 2, 3, 1).reshape(-1, variables).to(torch.int64).numpy()
    return (
        np.ascontiguousarray((shifts + correction.constants * _CONSTANT) << _SHIFT_TO_UNIT),
        correction.residuals << _SHIFT_TO_UNIT,
    )


def write_corrections(corrections: dict[tuple[int, int], Correction]) -> bytes:
    """All corrections of a tile in the order of their keys, each set of coefficients with its best Golomb order."""
    writer = BitWriter()
    for _, correction in sorted(corrections.items()):
        for coefficients in _sets(correction):
            codes = [to_zigzag(int(value)) for value in coefficients]
            order = min(range(1 << _ORDER_BITS), key=lambda trial: sum(_length(code, trial) for code in codes))
            writer.write(order, _ORDER_BITS)
            for code in codes:
                writer.write_exp_golomb(code, order)
    return writer.to_bytes()


def read_corrections(data: bytes, keys: list[tuple[int, int]]) -> dict[tuple[int, int], Correction]:
    """Invert :func:`write_corrections` for the (level, stage) ``keys``; raises :class:`CorruptFile`."""
    reader = BitReader(data, 0, "corrections")
    found = {}
    for key in sorted(keys):
        grids = key[1] + 1
        variables, channels = PLANES * grids, PLANES * grids
        sizes = [channels * _WINDOW**2] * variables + [variables, variables * (variables - 1) // 2]
        rows = []
        for size in sizes:
            order = reader.read(_ORDER_BITS)
            limit = to_zigzag(-_COEFFICIENT_LIMIT) + 1
            codes = [reader.read_exp_golomb(order, limit) for _ in range(size)]
            rows.append(np.array([from_zigzag(code) for code in codes], np.int64))
            if rows[-1].size and int(np.abs(rows[-1]).max()) > _COEFFICIENT_LIMIT:
                raise CorruptFile("corrections: a coefficient is out of range")
        lower = np.zeros((variables, variables), np.int64)
        lower[np.tril_indices(variables, -1)] = rows[-1]
        found[key] = Correction(
            filters=np.stack(rows[:variables]).reshape(variables, channels, _WINDOW, _WINDOW),
            constants=rows[variables],
            residuals=lower,
        )
    if reader.finish() != len(data):
        raise CorruptFile("corrections: bytes left over")
    return found


def _sets(correction: Correction) -> list[NDArray[np.int64]]:
    lower = correction.residuals[np.tril_indices(len(correction.residuals), -1)]
    return [*correction.filters.reshape(len(correction.filters), -1), correction.constants, lower]


def _length(code: int, order: int) -> int:
    return 2 * ((code >> order) + 1).bit_length() - 1 + order


def _neighbours(inputs: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """3x3 neighbourhoods less the block's base prediction: ``[blocks, inputs * 9]``."""
    padded = functional.pad(inputs, (1, 1, 1, 1), mode="replicate")
    windows = functional.unfold(padded, _WINDOW)[0].T.view(-1, inputs.shape[1], _WINDOW**2)
    colour = base[:, :PLANES].permute(0, 2, 3, 1).reshape(-1, PLANES)
    centred = windows - colour.repeat(1, inputs.shape[1] // PLANES)[:, :, None]
    return centred.reshape(len(windows), -1)


def _mixture_errors(parameters: torch.Tensor, residuals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the mixture's mean misses of each variable, and its variance: ``[blocks, variables]``."""
    variables = residuals.shape[1]
    pairs = variables * (variables - 1) // 2
    states = (parameters.shape[1] - pairs) // (2 * variables + 1)
    if parameter_count(variables, states) != parameters.shape[1]:
        raise ValueError(f"{parameters.shape[1]} parameters do not fit {variables} variables")
    unit = 1.0 / (1 << FRACTION_BITS)
    cells = variables * states
    offsets = parameters[:, :cells].view(-1, variables, states) * (4 * unit)
    log_scales = parameters[:, cells : 2 * cells].clamp(LOG_SCALE_LOW, LOG_SCALE_HIGH) * unit
    weights = torch.softmax(parameters[:, 2 * cells : 2 * cells + states] * unit, 1)[:, None]
    coefficients = parameters[:, 2 * cells + states :] * unit
    centres = torch.zeros_like(residuals)
    position = 0
    for variable in range(variables):
        for earlier in range(variable):
            centres[:, variable] += coefficients[:, position] * residuals[:, earlier]
            position += 1
    averages = (weights * offsets).sum(2)
    scales = torch.exp(2 * log_scales.view(-1, variables, states)) * 3.29
    variances = (weights * ((offsets - averages[:, :, None]) ** 2 + scales)).sum(2) + 0.1
    return residuals - centres - averages, variances
