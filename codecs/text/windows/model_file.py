"""The byte model on disk: a safetensors file whose columns are LZMA streams."""

from __future__ import annotations

import io
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....formats.errors import CorruptFile
from ....formats.limits import DEFAULT_LIMITS
from ....formats.safetensors_file import Tensor, read_safetensors, write_safetensors
from .context_model import ContextModel, context_model
from .context_pruning import PrunedContexts

__all__ = ["LoadedModel", "load_model", "model_bytes"]

_FORMAT = "codeckit windows model 1"
_RESET = 256
# Columns have no structure of positions or words, so the coder's contexts are the neighbouring bytes alone.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
_MOST_CONTEXTS = 1 << 24


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and the SHA-256 (hex) of its file."""

    contexts: ContextModel
    sha256: str


def model_bytes(pruned: PrunedContexts, levels: NDArray[np.uint32], metadata: Mapping[str, str]) -> bytes:
    """The file of a model."""
    resets = pruned.symbols[1:] == _RESET
    columns = {
        "child_counts": pruned.child_counts,
        "resets": np.packbits(resets),
        "symbols": pruned.symbols[1:][~resets],
        "entry_counts": pruned.entry_counts,
        "entry_bytes": pruned.entry_bytes,
        "entry_levels": pruned.entry_levels,
    }
    tensors = {name: _packed(np.asarray(column), name) for name, column in columns.items()}
    tensors["levels"] = Tensor(dtype="U32", data=levels.astype("<u4"))
    tensors["root"] = Tensor(dtype="U32", data=pruned.root.astype("<u4"))
    stream = io.BytesIO()
    contexts, entries = str(len(pruned.child_counts)), str(len(pruned.entry_bytes))
    write_safetensors(stream, tensors, {**metadata, "format": _FORMAT, "contexts": contexts, "entries": entries})
    return stream.getvalue()


def _packed(column: NDArray[Any], name: str) -> Tensor:
    """Counts above 254 are 255 and stand at the end as little-endian 32-bit integers."""
    wide = column[column > 254].astype("<u4") if name.endswith("counts") else np.empty(0, "<u4")
    narrow = np.minimum(column, 255).astype(np.uint8)
    data = lzma.compress(narrow.tobytes() + wide.tobytes(), format=lzma.FORMAT_RAW, filters=_FILTERS)
    return Tensor(dtype="U8", data=np.frombuffer(data, np.uint8))


@lru_cache(maxsize=2)
def load_model(content: bytes, sha256: str, name: str) -> LoadedModel:
    """The model in the bytes of a file called ``name``.

    Raises :class:`CorruptFile` for anything but a model.
    """
    tensors, metadata = read_safetensors(content, name=name, limits=DEFAULT_LIMITS)
    if metadata.get("format") != _FORMAT:
        raise CorruptFile(f"{name}: not a windows model of this version")
    try:
        contexts, entries = int(metadata["contexts"]), int(metadata["entries"])
        columns = {key: tensor.data for key, tensor in tensors.items()}
        if not 0 < contexts <= _MOST_CONTEXTS or not 0 <= entries <= 16 * _MOST_CONTEXTS:
            raise ValueError(f"{contexts:,} contexts and {entries:,} entries")
        return LoadedModel(_model(columns, contexts, entries), sha256)
    except (KeyError, ValueError, IndexError, lzma.LZMAError) as error:
        raise CorruptFile(f"{name}: not a sound windows model ({error})") from error


def _model(columns: Mapping[str, NDArray[Any]], contexts: int, entries: int) -> ContextModel:
    resets = np.unpackbits(_bytes(columns["resets"], (contexts + 6) // 8), count=contexts - 1).astype(bool)
    symbols = np.full(contexts, _RESET, np.int16)
    plain = np.flatnonzero(~resets) + 1
    symbols[plain] = _bytes(columns["symbols"], len(plain))
    levels = columns["levels"].astype(np.uint32)
    entry_levels = _bytes(columns["entry_levels"], entries)
    if levels.ndim != 1 or not 0 < len(levels) <= 256 or levels.max() > 65535:
        raise ValueError("levels are not up to 256 weights below 65,536")
    if entries and entry_levels.max() >= len(levels):
        raise ValueError("an entry has a level beyond the table")
    return context_model(
        _counts(columns["child_counts"], contexts),
        symbols,
        _counts(columns["entry_counts"], contexts),
        _bytes(columns["entry_bytes"], entries),
        levels.astype(np.uint16)[entry_levels],
        columns["root"].astype(np.uint32),
    )


def _decompress(packed: NDArray[Any], most: int) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    data = decompressor.decompress(packed.astype(np.uint8).tobytes(), most + 1)
    if len(data) > most:
        raise ValueError("a column is longer than the model")
    return data


def _bytes(packed: NDArray[Any], count: int) -> NDArray[np.uint8]:
    data = _decompress(packed, count)
    if len(data) != count:
        raise ValueError(f"a column holds {len(data):,} values instead of {count:,}")
    return np.frombuffer(data, np.uint8)


def _counts(packed: NDArray[Any], count: int) -> NDArray[np.int64]:
    data = _decompress(packed, 5 * count)
    result = np.frombuffer(data[:count], np.uint8).astype(np.int64)
    wide = np.flatnonzero(result == 255)
    if len(data) != count + 4 * len(wide):
        raise ValueError("a column of counts has the wrong length")
    result[wide] = np.frombuffer(data[count:], "<u4")
    return result
