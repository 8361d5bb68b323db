"""Calibrated profiles: a cache model with its tables and sensitivities, kept in a safetensors file.

A file that was encoded with a profile names its SHA-256; decoding needs the same profile. Predictors are int8 with one
scale per column, transforms float16: a profile of rank 96 for 30 layers of 384 channels takes about 8 MB.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...entropy.frequency_table import FrequencyTable
from ...entropy.table_format import read_table
from ...formats.errors import CodecError, CorruptFile, InvalidParameter, UnsupportedVersion
from ...formats.limits import DEFAULT_LIMITS
from ...formats.safetensors_file import Tensor, dtype_name, read_safetensors, write_safetensors
from .cache import CacheTable
from .cache_model import MAGNITUDES, CacheModel, PartModel, Predictor, history_size
from .sensitivity import DISTANCE_EDGES, SINK_TOKENS, Sensitivity
from .symbols import CLASSES
from .weight_stream import SCALES, WeightModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .symbol_block import SymbolDecoder

__all__ = ["Profile", "load_profile", "rounded_predictor", "rounded_synthesis", "save_profile"]

_FORMAT = "codeckit.kv-profile"
_VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A calibrated model. ``table`` describes one token of the caches it fits; ``sha256`` identifies its file."""

    table: CacheTable
    model: CacheModel
    tables: tuple[FrequencyTable, ...]
    weights: WeightModel
    sensitivity: Sensitivity
    quality: int
    sha256: str = ""

    @cached_property
    def decoder(self) -> SymbolDecoder:
        """A decoder for ``tables``, made once for all files."""
        from .symbol_block import SymbolDecoder  # compiles or loads native code

        return SymbolDecoder(self.tables)

    def check_fits(self, table: CacheTable) -> None:
        """Raise :class:`InvalidParameter` unless caches like ``table`` are what this profile was made for."""
        if table.model and self.table.model and table.model != self.table.model:
            raise InvalidParameter(
                f"the cache is of model {table.model!r}, the profile of {self.table.model!r}; use a profile made for it"
            )
        mine = [[(p.role, p.heads, p.width) for p in layer.parts] for layer in self.table.layers]
        theirs = [[(p.role, p.heads, p.width) for p in layer.parts] for layer in table.layers]
        if len(mine) != len(theirs):
            raise InvalidParameter(
                f"the cache has {len(theirs)} layers, the profile of {self.table.model!r} {len(mine)}"
            )
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            if one != other:
                raise InvalidParameter(
                    f"layer {number} of the cache has the parts {other}, of the profile of {self.table.model!r} {one}"
                )
        if any(layer.first_token for layer in table.layers):
            raise InvalidParameter("profiles do not cover sliding windows that dropped tokens; use profile=none")
        if (self.table.rotary is None) != (table.rotary is None) or (
            self.table.rotary is not None
            and table.rotary is not None
            and not np.allclose(self.table.rotary.inverse_frequencies, table.rotary.inverse_frequencies, rtol=1e-6)
        ):
            raise InvalidParameter(
                "the rotary embedding of the cache is not that of the profile; "
                "give the cache its rope_theta or rope_inverse_frequencies metadata"
            )


def rounded_synthesis(synthesis: NDArray[Any]) -> NDArray[np.float32]:
    """``synthesis`` [heads, width, width] as a profile keeps it: float16 with one factor for each head."""
    halves, peak = _half_with_peak(synthesis.astype(np.float32))
    return _from_half(halves, peak)


def rounded_predictor(down: NDArray[np.float32], up: NDArray[np.float32]) -> Predictor:
    """The predictor as a profile keeps it: int8 columns."""
    parts = [_int8_columns(matrix) for matrix in (down, up)]
    return Predictor(down=parts[0][0].astype(np.float32) * parts[0][1], up=parts[1][0].astype(np.float32) * parts[1][1])


def save_profile(profile: Profile, stream: Any) -> str:
    """Write ``profile`` to a binary stream; return its SHA-256."""
    arrays: dict[str, NDArray[Any]] = {
        "shifts": profile.model.shifts,
        "tables": _tables_bytes(profile.tables),
        "weights.tables": _tables_bytes(profile.weights.tables),
        "weights.coefficients": profile.weights.coefficients,
        "weights.start": profile.weights.start,
        "weights.scale": profile.weights.scale,
        "sensitivity.gain": profile.sensitivity.gain,
        "sensitivity.floor": profile.sensitivity.floor,
        "sensitivity.mean_mass": profile.sensitivity.mean_mass,
        "sensitivity.sink": profile.sensitivity.sink,
    }
    for number, layer in enumerate(profile.model.parts):
        for row, part in zip(profile.table.layers[number].parts, layer, strict=True):
            name = f"layers.{number}.{row.role}"
            arrays[f"{name}.mean"] = part.mean
            arrays[f"{name}.synthesis"], arrays[f"{name}.peak"] = _half_with_peak(part.synthesis)
            arrays[f"{name}.scales"] = part.scales
            if part.predictor is not None:
                for side, matrix in (("down", part.predictor.down), ("up", part.predictor.up)):
                    arrays[f"{name}.{side}"], arrays[f"{name}.{side}_scale"] = _int8_columns(matrix)
    tensors = {
        name: Tensor(dtype=dtype_name(array.dtype), data=np.ascontiguousarray(array))
        for name, array in sorted(arrays.items())
    }
    buffer = io.BytesIO()
    write_safetensors(buffer, tensors, _metadata(profile))
    stream.write(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_profile(path: Path) -> Profile:
    """Read a profile; :class:`InvalidParameter` if it is missing, :class:`CorruptFile` if damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot read the profile {path}: {error.strerror or error}") from error
    tensors, metadata = read_safetensors(data, name=str(path), limits=DEFAULT_LIMITS)
    if metadata.get("format") != _FORMAT:
        raise CorruptFile(f"{path} is not a {_FORMAT} file; make one with `codec train kv`")
    if metadata.get("version") != _VERSION:
        raise UnsupportedVersion(f"{path} is a profile of version {metadata.get('version')}; upgrade codeckit")
    try:
        return _from_tensors(tensors, metadata, hashlib.sha256(data).hexdigest())
    except CodecError:
        raise
    except (KeyError, ValueError, IndexError, TypeError, np.linalg.LinAlgError) as error:
        raise CorruptFile(f"the profile {path} lacks or garbles a field: {error}") from error


def _from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], sha256: str) -> Profile:
    settings = json.loads(metadata["settings"])
    table = CacheTable.from_json(settings["table"])
    reach, intra_every = int(settings["reach"]), int(settings["intra_every"])
    layers = []
    for number, layer in enumerate(table.layers):
        parts = []
        for index, row in enumerate(layer.parts):
            name = f"layers.{number}.{row.role}"
            peak = _array(tensors, f"{name}.peak", (row.heads,))
            halves = _array(tensors, f"{name}.synthesis", (row.heads, row.width, row.width))
            inputs = history_size(table.layers, number, index, reach=reach, intra_every=intra_every)
            parts.append(
                PartModel(
                    mean=_array(tensors, f"{name}.mean", (row.heads, row.width)),
                    synthesis=_from_half(halves, peak),
                    scales=_array(tensors, f"{name}.scales", (row.heads, row.width)),
                    predictor=_predictor(tensors, name, inputs, row.channels),
                )
            )
        layers.append(tuple(parts))
    heads = sum(layer.parts[0].heads for layer in table.layers)
    buckets = len(DISTANCE_EDGES)
    sensitivity = Sensitivity(
        gain=_array(tensors, "sensitivity.gain", (buckets,)),
        floor=_array(tensors, "sensitivity.floor", (heads, buckets)),
        mean_mass=_array(tensors, "sensitivity.mean_mass", (heads, buckets)),
        sink=_array(tensors, "sensitivity.sink", (heads, SINK_TOKENS)),
    )
    model = CacheModel(
        parts=tuple(layers),
        reach=reach,
        intra_every=intra_every,
        shifts=_array(tensors, "shifts", (CLASSES, MAGNITUDES)),
    )
    if int(_array(tensors, "weights.scale", (heads,)).max()) >= SCALES:
        raise CorruptFile("profile: weights.scale names a table that is not there")
    return Profile(
        table=table,
        model=model,
        tables=_tables_of(tensors["tables"].data.tobytes(), CLASSES),
        weights=WeightModel(
            coefficients=_array(tensors, "weights.coefficients", (heads, 4)),
            start=_array(tensors, "weights.start", (heads,)),
            scale=_array(tensors, "weights.scale", (heads,)),
            tables=_tables_of(tensors["weights.tables"].data.tobytes(), SCALES),
        ),
        sensitivity=sensitivity,
        quality=int(settings["quality"]),
        sha256=sha256,
    )


def _half_with_peak(matrices: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    peak = np.abs(matrices).max(axis=(1, 2)).astype(np.float32)
    return (matrices / peak[:, None, None]).astype(np.float16), peak


def _from_half(halves: NDArray[np.float16], peak: NDArray[np.float32]) -> NDArray[np.float32]:
    return halves.astype(np.float32) * peak[:, None, None]


def _predictor(tensors: Mapping[str, Tensor], name: str, inputs: int, channels: int) -> Predictor | None:
    if inputs == 0:
        return None
    rank = tensors[f"{name}.down"].shape[1]
    sides = [
        _array(tensors, f"{name}.{side}", shape).astype(np.float32)
        * _array(tensors, f"{name}.{side}_scale", (shape[1],))
        for side, shape in (("down", (inputs, rank)), ("up", (rank, channels)))
    ]
    return Predictor(down=sides[0], up=sides[1])


def _array(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    tensor = tensors[name]
    if tensor.shape != shape:
        raise CorruptFile(f"profile: {name} has the shape {list(tensor.shape)}, expected {list(shape)}")
    if tensor.data.dtype.kind == "f" and not np.isfinite(tensor.data).all():
        raise CorruptFile(f"profile: {name} holds values that are not finite")
    return tensor.data


def _metadata(profile: Profile) -> dict[str, str]:
    settings = {
        "table": profile.table.as_json(),
        "quality": profile.quality,
        "reach": profile.model.reach,
        "intra_every": profile.model.intra_every,
    }
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "settings": json.dumps(settings, sort_keys=True, separators=(",", ":")),
    }


def _int8_columns(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    peak = np.maximum(np.abs(matrix).max(axis=0), np.float32(1e-30))
    scale = (peak / 127).astype(np.float32)
    return np.round(matrix / scale).astype(np.int8), scale


def _tables_bytes(tables: tuple[FrequencyTable, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(table.to_bytes() for table in tables), np.uint8)


def _tables_of(data: bytes, count: int) -> tuple[FrequencyTable, ...]:
    tables: list[FrequencyTable] = []
    position = 0
    while position < len(data):
        table, position = read_table(data, position)
        tables.append(table)
    if len(tables) != count:
        raise CorruptFile(f"profile: {len(tables)} frequency tables, expected {count}")
    return tuple(tables)
