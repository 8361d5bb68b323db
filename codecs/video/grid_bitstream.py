"""Network and latents of a segment as bytes: entropy parameters as integers, then one stream of symbols each.

``docs/gridnerv.md`` is normative. Everything that decides a symbol is an integer; steps and gains are half-precision
numbers that only scale what was decoded.
"""

from __future__ import annotations

import math
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
from .grid_network import GridNetwork, scale_rows
from .latent_grids import CLASSES, LatentGrids, latent_classes
from .rate_model import laplace_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .grid_structure import GridStructure

__all__ = ["ScaledIntegers", "pack_latents", "pack_network", "tensor_shapes", "unpack_latents", "unpack_network"]

_LARGEST = 1 << 15
_HISTOGRAM = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledIntegers:
    """Integers, int16, and the float32 that each is to be multiplied with; broadcastable."""

    levels: NDArray[np.int16]
    scale: NDArray[np.float32]

    def values(self) -> NDArray[np.float32]:
        """float32; one product each, so every machine gives the same."""
        result: NDArray[np.float32] = self.levels.astype(np.float32) * self.scale
        return result


@cache
def tensor_shapes(structure: GridStructure) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors in file order, without allocating them."""
    with torch.device("meta"):
        network = GridNetwork(structure)
    shapes = {name: tuple(tensor.value.shape) for name, tensor in network.tensors().items()}
    if sum(math.prod(shape) for shape in shapes.values()) != structure.decoder_parameters:
        raise RuntimeError("the structure and the network count parameters differently")
    return shapes


def pack_network(network: GridNetwork) -> bytes:
    """Steps (float16), the scale indices under a table of their own, and all weights, row by row."""
    tensors = network.tensors().values()
    steps = np.array([float(tensor.step().detach()) for tensor in tensors], "<f2")
    rows = []
    for tensor, step in zip(tensors, steps, strict=True):
        levels = _levels(tensor.value.detach().cpu().numpy() / np.float32(step))
        rows += list(levels.reshape(scale_rows(levels.shape), -1))
    indices = np.array([_best_scale(row[None])[0] for row in rows], np.int64)
    table = FrequencyTable.from_counts(np.bincount(indices, minlength=SCALE_COUNT))
    encoder = AnsEncoder()
    encoder.encode(indices, table)
    encoder.encode_indexed(np.concatenate(rows), scale_tables("laplace"), np.repeat(indices, [len(r) for r in rows]))
    return steps.tobytes() + table.to_bytes() + encoder.finish()


def unpack_network(payload: bytes, structure: GridStructure) -> list[ScaledIntegers]:
    """The tensors of :func:`tensor_shapes`; raises :class:`CorruptFile` when the payload is anything else."""
    shapes = list(tensor_shapes(structure).values())
    steps, position = _read_scales(payload, 0, len(shapes), "NETW chunk")
    table, position = read_table(payload, position)
    _check_indices(table, "NETW chunk")
    rows = [(scale_rows(shape), math.prod(shape)) for shape in shapes]
    decoder = AnsDecoder(memoryview(payload)[position:])
    indices = decoder.decode(table, sum(count for count, _ in rows))
    lengths = np.concatenate([np.full(count, size // count) for count, size in rows])
    levels = _checked(decoder.decode_indexed(scale_tables("laplace"), np.repeat(indices, lengths)), "NETW chunk")
    decoder.finish()
    pieces = np.split(levels, np.cumsum([size for _, size in rows])[:-1])
    return [
        ScaledIntegers(levels=piece.reshape(shape), scale=step)
        for piece, shape, step in zip(pieces, shapes, steps, strict=True)
    ]


def pack_latents(latents: LatentGrids) -> bytes:
    """Gains (float16), scale indices, and grid after grid, key after key, the latents."""
    tables = scale_tables("laplace")
    gains = [gain.detach().exp().cpu().numpy().ravel().astype("<f2") for gain in latents.log_gains]
    encoder = AnsEncoder()
    head, coded = [], []
    for values in latents.values:
        levels = _levels(values.detach().cpu().numpy())
        classes = [_classes(levels, key) for key in range(len(levels))]
        indices = _class_scales(levels, classes)
        head.append(indices.ravel())
        coded.append((levels, classes, indices))
    flat = np.concatenate(head)
    table = FrequencyTable.from_counts(np.bincount(flat, minlength=SCALE_COUNT))
    encoder.encode(flat, table)
    for levels, classes, indices in coded:
        for key, class_map in enumerate(classes):
            encoder.encode_indexed(levels[key], tables, _table_indices(indices, class_map))
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


def _class_scales(levels: NDArray[np.int16], classes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """[classes, channels]: the cheapest scale index for every class of every channel."""
    channels = levels.shape[1]
    count = 1 if len(levels) == 1 else CLASSES
    histograms = np.zeros((count, channels, _HISTOGRAM), np.int64)
    for values, class_map in zip(levels, classes, strict=True):
        magnitudes = np.minimum(np.abs(values.astype(np.int64)), _HISTOGRAM - 1)
        cells = (class_map * channels + np.arange(channels)[:, None, None]) * _HISTOGRAM + magnitudes
        histograms += np.bincount(cells.ravel(), minlength=histograms.size).reshape(histograms.shape)
    return _cheapest(histograms.reshape(-1, _HISTOGRAM)).reshape(count, channels)


def _best_scale(rows: NDArray[np.int16]) -> NDArray[np.int64]:
    magnitudes = np.minimum(np.abs(rows.astype(np.int64)), _HISTOGRAM - 1)
    return _cheapest(np.stack([np.bincount(row, minlength=_HISTOGRAM) for row in magnitudes]))


def _cheapest(histograms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Per row of magnitude counts the scale index with the fewest bits: the encoder's choice, so floats do no harm."""
    costs: NDArray[np.float64] = _magnitude_bits() @ histograms.T.astype(np.float64)
    best: NDArray[np.int64] = costs.argmin(axis=0)
    return best


@cache
def _magnitude_bits() -> NDArray[np.float64]:
    """[scale index, magnitude]: bits of one value."""
    magnitudes = torch.arange(_HISTOGRAM, dtype=torch.float64)
    indices = torch.arange(SCALE_COUNT, dtype=torch.float64)[:, None]
    bits: NDArray[np.float64] = laplace_bits(magnitudes, indices).numpy()
    return bits


def _levels(values: NDArray[np.float32]) -> NDArray[np.int16]:
    rounded = np.rint(values)
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
