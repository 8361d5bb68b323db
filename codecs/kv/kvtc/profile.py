"""KVTC's profile: principal components of all layers and heads together, and what quantising groups of them costs."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....formats.errors import CorruptFile, InvalidParameter
from ....formats.limits import DEFAULT_LIMITS
from ....formats.safetensors_file import Tensor, read_safetensors, write_safetensors
from .allocation import BITS, GROUP_SIZES, UNIT

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..cache import CacheTable

    Floats = NDArray[np.float32]

__all__ = ["ROLES", "Components", "KVTCProfile", "load_profile", "save_profile"]

ROLES = ("key", "value")
_FORMAT = "codeckit.kvtc-profile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Of keys before RoPE, or of values, all layers and heads side by side.

    ``mean`` float32 [features]; ``basis`` float16 [features, rank], orthonormal columns by falling variance; ``errors``
    float64 as :func:`group_errors` gives them.
    """

    mean: Floats
    basis: NDArray[np.float16]
    errors: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class KVTCProfile:
    """Keys and values in this order; ``shape`` is (layers, heads, width) of the model's cache."""

    model: str
    shape: tuple[int, int, int]
    parts: tuple[Components, Components]
    sha256: str = ""

    def check_fits(self, table: CacheTable) -> None:
        """Raise :class:`InvalidParameter` unless caches like ``table`` are what this profile was made for."""
        if table.model and self.model and table.model != self.model:
            raise InvalidParameter(
                f"the cache is of model {table.model!r}, the profile of {self.model!r}; use a profile made for it"
            )
        layers, heads, width = self.shape
        for number, layer in enumerate(table.layers):
            own = [(part.role, part.heads, part.width) for part in layer.parts]
            if len(table.layers) != layers or own != [(role, heads, width) for role in ROLES] or layer.first_token:
                raise InvalidParameter(
                    f"the profile of {self.model!r} is for {layers} layers of {heads} heads of {width} channels with "
                    f"all their tokens; layer {number} of {len(table.layers)} has {own} from token {layer.first_token}"
                )
        if table.rotary is None:
            raise InvalidParameter(
                "kvtc codes keys before the rotary embedding; give the cache its rope_theta metadata"
            )


def save_profile(profile: KVTCProfile, stream: Any) -> str:
    """Write ``profile`` to a binary stream; return its SHA-256."""
    arrays: dict[str, NDArray[Any]] = {}
    for role, part in zip(ROLES, profile.parts, strict=True):
        arrays[f"{role}.mean"] = part.mean.astype(np.float32)
        arrays[f"{role}.basis"] = part.basis
        arrays[f"{role}.errors"] = part.errors
    types = {"mean": "F32", "basis": "F16", "errors": "F64"}
    tensors = {
        name: Tensor(dtype=types[name.partition(".")[2]], data=np.ascontiguousarray(array))
        for name, array in arrays.items()
    }
    buffer = io.BytesIO()
    shape = "x".join(map(str, profile.shape))
    write_safetensors(buffer, tensors, {"format": _FORMAT, "model": profile.model, "shape": shape})
    stream.write(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_profile(path: Path) -> KVTCProfile:
    """Raises :class:`InvalidParameter` for a missing file, :class:`CorruptFile` for one that is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot read the profile {path}: {error.strerror or error}") from error
    tensors, metadata = read_safetensors(data, name=str(path), limits=DEFAULT_LIMITS)
    if metadata.get("format") != _FORMAT:
        raise CorruptFile(f"{path} is not a {_FORMAT} file; make one with `codec train kvtc`")
    sizes = metadata.get("shape", "").split("x")
    if len(sizes) != 3 or not all(size.isdecimal() and 0 < int(size) < 1 << 16 for size in sizes):
        raise CorruptFile(f"{path}: its shape is {metadata.get('shape')!r}")
    layers, heads, width = map(int, sizes)
    parts = [_components(tensors, role, layers * heads * width, str(path)) for role in ROLES]
    return KVTCProfile(
        model=metadata.get("model", ""),
        shape=(layers, heads, width),
        parts=(parts[0], parts[1]),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _components(tensors: dict[str, Tensor], role: str, features: int, name: str) -> Components:
    try:
        mean, basis, errors = (tensors[f"{role}.{field}"] for field in ("mean", "basis", "errors"))
    except KeyError as error:
        raise CorruptFile(f"{name}: {error.args[0]} is missing") from error
    rank = basis.shape[-1] if len(basis.shape) == 2 else 0
    right = (
        (mean.dtype, basis.dtype, errors.dtype) == ("F32", "F16", "F64")
        and mean.shape == (features,)
        and basis.shape == (features, rank)
        and rank > 0
        and rank % UNIT == 0
        and errors.shape == (rank // UNIT, len(GROUP_SIZES), len(BITS))
    )
    if not right or not (np.isfinite(mean.data).all() and np.isfinite(basis.data).all()) or np.isnan(errors.data).any():
        raise CorruptFile(f"{name}: the components of {role} are malformed")
    return Components(mean=mean.data, basis=basis.data, errors=errors.data)
