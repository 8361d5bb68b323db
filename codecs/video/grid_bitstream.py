"""Network and latents of a segment as bytes: entropy parameters as integers, then one stream of symbols each.

``docs/gridnerv.md`` is normative. Everything that decides a symbol is an integer; steps and gains are half-precision
numbers that only scale what was decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...entropy.frequency_table import FrequencyTable
from ...entropy.parametric_tables import SCALE_COUNT, scale_tables
from ...entropy.stream_decoding import AnsDecoder
from ...entropy.stream_encoding import AnsEncoder
from ...entropy.table_format import read_table
from ...formats.errors import CorruptFile, InvalidParameter
from .grid_weights import tensor_specs
from .latent_grids import CLASSES, latent_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .grid_structure import GridStructure
    from .grid_weights import GridWeights
    from .latent_grids import LatentGrids

__all__ = ["ScaledIntegers", "pack_latents", "pack_network", "unpack_latents", "unpack_network"]

_LARGEST = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledIntegers:
    """Integers, int16, and the float32 that each is to be multiplied with; broadcastable."""

    levels: NDArray[np.int16]
    scale: NDArray[np.float32]

    def values(self) -> NDArray[np.float32]:
        """float32; one product each, so every machine gives the same."""
        result: NDArray[np.float32] = self.levels.astype(np.float32) * self.scale
        return result


def pack_network(weights: GridWeights) -> bytes:
    """Steps (float16), the scale indices under a table of their own, and all weights, row by row."""
    coded = weights.coded()
    levels, scales = _levels(coded.levels), coded.scales.cpu().numpy()
    steps = coded.steps.cpu().numpy().astype("<f2")
    table = FrequencyTable.from_counts(np.bincount(scales, minlength=SCALE_COUNT))
    encoder = AnsEncoder()
    encoder.encode(scales, table)
    encoder.encode_indexed(levels, scale_tables("laplace"), np.repeat(scales, _row_lengths(weights.structure)))
    return steps.tobytes() + table.to_bytes() + encoder.finish()


def unpack_network(payload: bytes, structure: GridStructure) -> ScaledIntegers:
    """The vector of all weights; raises :class:`CorruptFile` when the payload is anything else."""
    specs = tensor_specs(structure)
    steps, position = _read_scales(payload, 0, len(specs), "NETW chunk")
    table, position = read_table(payload, position)
    _check_indices(table, "NETW chunk")
    lengths = _row_lengths(structure)
    decoder = AnsDecoder(memoryview(payload)[position:])
    scales = np.repeat(decoder.decode(table, len(lengths)), lengths)
    levels = _checked(decoder.decode_indexed(scale_tables("laplace"), scales), "NETW chunk")
    decoder.finish()
    return ScaledIntegers(levels=levels, scale=np.repeat(steps, [spec.size for spec in specs]))


def pack_latents(latents: LatentGrids) -> bytes:
    """Gains (float16), scale indices, and grid after grid, key after key, the latents."""
    latents.refit_scales()
    gains = [gain.detach().exp().cpu().numpy().ravel().astype("<f2") for gain in latents.log_gains]
    scales = [latents.scales(number).cpu().numpy() for number in range(len(latents.values))]
    flat = np.concatenate([some.ravel() for some in scales])
    table = FrequencyTable.from_counts(np.bincount(flat, minlength=SCALE_COUNT))
    encoder = AnsEncoder()
    encoder.encode(flat, table)
    for values, indices in zip(latents.values, scales, strict=True):
        levels = _levels(values)
        for key in range(len(levels)):
            chosen = _table_indices(indices, _classes(levels, key))
            encoder.encode_indexed(levels[key], scale_tables("laplace"), chosen)
    return b"".join(gain.tobytes() for gain in gains) + table.to_bytes() + encoder.finish()


def unpack_latents(payload: bytes, structure: GridStructure, frames: int) -> list[ScaledIntegers]:
    """The grids of a segment of ``frames`` frames; raises :class:`CorruptFile`."""
    what = "LATS chunk"
    shapes = [structure.grid_shape(grid, frames) for grid in structure.grids]
    gains, position = _read_scales(payload, 0, sum(shape[1] for shape in shapes), what)
    table, position = read_table(payload, position)
    _check_indices(table, what)
    decoder = AnsDecoder(memoryview(payload)[position:])
    rows = [1 if shape[0] == 1 else CLASSES for shape in shapes]
    counts = [count * shape[1] for count, shape in zip(rows, shapes, strict=True)]
    flat = np.split(decoder.decode(table, sum(counts)), np.cumsum(counts)[:-1])
    channel_gains = np.split(gains, np.cumsum([shape[1] for shape in shapes])[:-1])
    grids = []
    for shape, count, indices, gain in zip(shapes, rows, flat, channel_gains, strict=True):
        levels = np.zeros(shape, np.int16)
        for key in range(shape[0]):
            chosen = _table_indices(indices.reshape(count, shape[1]), _classes(levels, key))
            levels[key] = _checked(decoder.decode_indexed(scale_tables("laplace"), chosen), what)
        grids.append(ScaledIntegers(levels=levels, scale=gain.reshape(1, -1, 1, 1)))
    decoder.finish()
    return grids


def _classes(levels: NDArray[np.int16], key: int) -> NDArray[np.int64]:
    """[channels, rows, columns]: the class of each latent of ``key``, from the key before."""
    if key == 0:
        return np.zeros(levels.shape[1:], np.int64)
    classes: NDArray[np.int64] = latent_classes(torch.from_numpy(levels[key - 1].astype(np.int32))).numpy()
    return classes


def _table_indices(indices: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The scale index of each latent from ``indices`` [classes, channels] and its class [channels, rows, columns]."""
    chosen: NDArray[np.int64] = indices[classes, np.arange(classes.shape[0])[:, None, None]]
    return chosen


@cache
def _row_lengths(structure: GridStructure) -> NDArray[np.int64]:
    """Values of every row of weights that has a scale of its own."""
    return np.concatenate([np.full(spec.rows, spec.size // spec.rows, np.int64) for spec in tensor_specs(structure)])


def _levels(values: torch.Tensor) -> NDArray[np.int16]:
    rounded = values.detach().round().cpu().numpy()
    if not np.isfinite(rounded).all() or np.abs(rounded).max(initial=0) >= _LARGEST:
        raise InvalidParameter("the fit gave values that no file can hold; lower lr or latent_lr, or change the seed")
    return rounded.astype(np.int16)


def _checked(levels: NDArray[np.int64], what: str) -> NDArray[np.int16]:
    if levels.size and int(np.abs(levels).max()) >= _LARGEST:
        raise CorruptFile(f"{what}: a value lies beyond +-{_LARGEST - 1}")
    return levels.astype(np.int16)


def _read_scales(payload: bytes, position: int, count: int, what: str) -> tuple[NDArray[np.float32], int]:
    end = position + 2 * count
    if end > len(payload):
        raise CorruptFile(f"{what}: it ends inside the steps at byte {len(payload)}")
    values = np.frombuffer(payload, "<f2", count, position).astype(np.float32)
    if not np.isfinite(values).all():
        raise CorruptFile(f"{what}: the steps at byte {position} are not finite")
    return values, end


def _check_indices(table: FrequencyTable, what: str) -> None:
    if table.escape or table.minimum < 0 or table.maximum >= SCALE_COUNT:
        raise CorruptFile(f"{what}: scale indices {table.minimum}..{table.maximum} are not within 0..{SCALE_COUNT - 1}")
