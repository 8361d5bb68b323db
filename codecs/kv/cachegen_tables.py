"""CacheGen's statistics: a delta step per layer, a frequency table per layer and channel; calibrated or own."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.bit_io import append_varint, read_varint
from ...entropy.frequency_table import FrequencyTable
from ...entropy.table_format import read_table
from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.limits import DEFAULT_LIMITS
from ...formats.safetensors_file import Tensor, read_safetensors, write_safetensors
from .cachegen_quantiser import delta_step, quantise_deltas, quantise_maxima

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = [
    "CacheGenTables",
    "PartTables",
    "build_tables",
    "load_tables",
    "read_tables",
    "save_tables",
    "write_tables",
]

_FORMAT = "codeckit.cachegen-profile"
_REACH = 400
_PRIOR = 8.0
_SCALE = 1 << 30
_PUBLISHED_BINS = (12, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTables:
    """Of one part of one layer: the delta step, or the bins of the published code, and a table per channel.

    For the published code ``anchors`` is empty and its only symbols are those of ``others``.
    """

    step: float
    anchors: tuple[FrequencyTable, ...]
    others: tuple[FrequencyTable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGenTables:
    """Every part in file order; ``level`` as in the codec's parameters, 0 for the published code."""

    parts: tuple[PartTables, ...]
    level: int


def build_tables(
    samples: Sequence[Sequence[Floats]], layers: int, *, level: int, bins: Sequence[int] | None = None
) -> CacheGenTables:
    """Tables from ``samples``: for each cache, every part in file order as float32 [tokens, channels].

    ``bins`` per part selects the published code's quantiser, else the paper's with ``level`` thousandths.
    """
    count = len(samples[0])
    parts = []
    for number in range(count):
        values = [sample[number] for sample in samples]
        if bins is not None:
            symbols = np.concatenate([quantise_maxima(v, bins[number])[0] for v in values])
            parts.append(PartTables(step=float(bins[number]), anchors=(), others=_channel_tables(symbols)))
            continue
        # the root mean square of the channels' standard deviations
        deviation = float(np.sqrt(np.concatenate(values).var(axis=0).mean()))
        layer = number * layers // count
        step = max(delta_step(layer, layers, level / 1000) * deviation, 1e-20)
        step = float(np.float32(step))
        coded = [quantise_deltas(v, step) for v in values]
        parts.append(
            PartTables(
                step=step,
                anchors=_channel_tables(np.concatenate([c[0] for c in coded])),
                others=_channel_tables(np.concatenate([c[1] for c in coded])),
            )
        )
    return CacheGenTables(parts=tuple(parts), level=0 if bins is not None else level)


def write_tables(tables: CacheGenTables) -> bytes:
    """The tables as bytes, for a chunk or a profile."""
    out = bytearray()
    append_varint(out, tables.level)
    append_varint(out, len(tables.parts))
    for part in tables.parts:
        out += np.float32(part.step).tobytes()
        for row in (part.anchors, part.others):
            append_varint(out, len(row))
            for table in row:
                out += table.to_bytes()
    return bytes(out)


def read_tables(data: bytes) -> CacheGenTables:
    """Invert :func:`write_tables`; raises :class:`CorruptFile`."""
    what = "CacheGen tables"
    level, position = read_varint(data, 0, what)
    count, position = read_varint(data, position, what)
    parts = []
    for _ in range(count):
        if position + 4 > len(data):
            raise CorruptFile(f"{what}: the data end inside a step")
        step = float(np.frombuffer(data, "<f4", 1, position)[0])
        if not (np.isfinite(step) and step > 0):
            raise CorruptFile(f"{what}: a step is {step}")
        position += 4
        rows: list[tuple[FrequencyTable, ...]] = []
        for _ in range(2):
            size, position = read_varint(data, position, what)
            found = []
            for _ in range(size):
                table, position = read_table(data, position)
                found.append(table)
            rows.append(tuple(found))
        if not rows[0] and int(step) not in _PUBLISHED_BINS:
            raise CorruptFile(f"{what}: {step} bins; the published code has 12, 16 or 32")
        parts.append(PartTables(step=step, anchors=rows[0], others=rows[1]))
    if position != len(data):
        raise CorruptFile(f"{what}: {len(data) - position} bytes left over")
    return CacheGenTables(parts=tuple(parts), level=level)


def save_tables(tables: Sequence[CacheGenTables], model: str, stream: Any) -> str:
    """Write a profile of several levels; return its SHA-256."""
    buffer = io.BytesIO()
    tensors = {
        f"levels.{own.level}": Tensor(dtype="U8", data=np.frombuffer(write_tables(own), np.uint8)) for own in tables
    }
    write_safetensors(buffer, tensors, {"format": _FORMAT, "model": model})
    stream.write(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_tables(path: Path, level: int) -> tuple[CacheGenTables, str, str]:
    """The tables of one level of a profile, its model and its SHA-256.

    Raises :class:`InvalidParameter` for a missing file or level, :class:`CorruptFile` for a damaged one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot read the profile {path}: {error.strerror or error}") from error
    tensors, metadata = read_safetensors(data, name=str(path), limits=DEFAULT_LIMITS)
    if metadata.get("format") != _FORMAT:
        raise CorruptFile(f"{path} is not a {_FORMAT} file; make one with `codec train cachegen`")
    if f"levels.{level}" not in tensors:
        known = ", ".join(sorted(name.partition(".")[2] for name in tensors))
        raise InvalidParameter(f"the profile {path} was made for the levels {known}, not for level={level}")
    tables = read_tables(tensors[f"levels.{level}"].data.tobytes())
    return tables, metadata.get("model", ""), hashlib.sha256(data).hexdigest()


def _channel_tables(symbols: NDArray[np.int32]) -> tuple[FrequencyTable, ...]:
    """One table per channel of ``symbols`` [samples, channels]: its histogram with a geometric prior."""
    reach = int(min(np.abs(symbols).max(initial=0), _REACH))
    magnitudes = np.abs(np.arange(-reach, reach + 1))
    result = []
    for row in symbols.T:
        inside = row[np.abs(row) <= reach]
        counts = np.bincount(inside + reach, minlength=2 * reach + 1)
        mean = float(np.abs(row).sum()) / max(row.size, 1) + 0.02
        prior = (mean / (1 + mean)) ** magnitudes
        shares = counts + _PRIOR * prior / prior.sum()
        used = magnitudes[shares > 1e-3]
        edge = int(used.max(initial=0))
        kept = shares[reach - edge : reach + edge + 1]
        escape = row.size - inside.size + 0.01
        scaled = np.round(np.append(kept, escape) / (row.size + _PRIOR) * _SCALE).astype(np.int64)
        result.append(FrequencyTable.from_counts(scaled, minimum=-edge, escape=True, bits=16))
    return tuple(result)
