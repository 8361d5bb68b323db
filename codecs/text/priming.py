"""Starting a block from a trained state instead of an empty one.

A snapshot holds the adaptive maps and the mixer weights after coding training text that the n-gram memory has not
seen. There is one for each preset and profile: ``prose`` for English, ``mixed`` for code, markup and other languages.
Weight sets with thousands of rows are stored as one mean row per bit position; weights lose their four lowest bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import CorruptFile
from .byte_model import ByteModel
from .model_state import ModelState, input_count, selector_rows
from .presets import Preset
from .recall import MEMORY_ORDERS

__all__ = ["PROFILES", "restore_snapshot", "take_snapshot"]

PROFILES = ("prose", "mixed")

_MAPS = ("history_maps", "run_maps", "match_maps", "memory_maps")
# How a large set's row number contains the bit position: high bits (c2) or low bits (classes, memory).
_BIT_IN_HIGH_PART = {3: 8}
_BIT_IN_LOW_PART = {4: 8, 6: 8}
_WEIGHT_SHIFT = 4
# Trained maps keep adapting to the file at hand: counts start no higher than this.
_START_COUNT = 60


def _groups(set_index: int, rows: int) -> NDArray[np.int64]:
    """Which stored row each row of a weight set starts from."""
    numbers = np.arange(rows)
    if set_index in _BIT_IN_HIGH_PART:
        return numbers // (rows // _BIT_IN_HIGH_PART[set_index])
    if set_index in _BIT_IN_LOW_PART:
        return numbers % _BIT_IN_LOW_PART[set_index]
    return numbers


def take_snapshot(preset: Preset, profile: str, state: ModelState, fresh: ModelState) -> dict[str, NDArray[np.generic]]:
    """What a trained ``state`` knows beyond a ``fresh`` one, as named tensors."""
    prefix = f"{preset.name}.{profile}"
    tensors: dict[str, NDArray[np.generic]] = {f"{prefix}.final_weights": state.final_weights.copy()}
    for name in _MAPS:
        cells = np.asarray(getattr(state, name))
        tensors[f"{prefix}.{name}"] = (cells & ~np.uint32(1023)) | np.minimum(cells & 1023, _START_COUNT)
    inputs = input_count(preset, MEMORY_ORDERS if preset.uses_memory else 0)
    start = 0
    for index, rows in enumerate(selector_rows(preset.level)):
        stop = start + rows * inputs
        trained = state.weights[start:stop].reshape(rows, inputs).astype(np.int64)
        untouched = fresh.weights[start:stop].reshape(rows, inputs)
        used = (trained != untouched).any(axis=1)
        group = _groups(index, rows)
        overall = trained[used].mean(axis=0) if used.any() else untouched[0]
        stored = np.empty((int(group.max()) + 1, inputs), np.int64)
        for row in range(len(stored)):
            members = used & (group == row)
            stored[row] = np.rint(trained[members].mean(axis=0) if members.any() else overall)
        tensors[f"{prefix}.weights{index}"] = np.clip(stored >> _WEIGHT_SHIFT, -32768, 32767).astype(np.int16)
        start = stop
    return tensors


def restore_snapshot(preset: Preset, profile: str, state: ModelState, model: ByteModel) -> None:
    """Overwrite a fresh ``state`` with the snapshot that ``model`` holds for ``preset`` and ``profile``.

    Raises:
        CorruptFile: the model lacks the snapshot or its shapes are not those of the preset.
    """
    prefix = f"{preset.name}.{profile}"
    for name in (*_MAPS, "final_weights"):
        target = getattr(state, name)
        target[:] = _tensor(model, f"{prefix}.{name}", target.dtype, target.shape)
    inputs = input_count(preset, MEMORY_ORDERS if preset.uses_memory else 0)
    start = 0
    for index, rows in enumerate(selector_rows(preset.level)):
        stop = start + rows * inputs
        group = _groups(index, rows)
        stored = _tensor(model, f"{prefix}.weights{index}", np.dtype(np.int16), (int(group.max()) + 1, inputs))
        state.weights[start:stop] = (stored.astype(np.int32) << _WEIGHT_SHIFT)[group].reshape(-1)
        start = stop


def _tensor(model: ByteModel, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    tensor = model.tensors.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        raise CorruptFile(f"byte model: tensor {name} is missing or not {dtype} {shape}")
    return tensor
