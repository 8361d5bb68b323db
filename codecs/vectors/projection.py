"""Fewer dimensions: principal components, a random projection as their control, or a basis that is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...formats.errors import InvalidParameter
from ...formats.limits import DEFAULT_LIMITS
from ...formats.safetensors_file import read_safetensors
from ...formats.vector_source import from_bfloat16

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Projection", "fit_pca", "load_projection", "random_projection"]

_MAX_FILE_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class Projection:
    """``z = (x - mean) components.T``, ``x = mean + z components``; mean [D], components [d, D] orthonormal."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @property
    def stored(self) -> int:
        return len(self.components)


def fit_pca(sample: NDArray[np.float32], wanted: tuple[str, float]) -> Projection:
    """The principal components of ``sample`` [n, D] that ``wanted`` asks for; see :func:`.parse_pca`.

    Raises :class:`InvalidParameter` for more dimensions than there are.
    """
    dimensions = sample.shape[1]
    mean = sample.mean(axis=0, dtype=np.float64) if len(sample) else np.zeros(dimensions)
    centred = sample - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred)
    variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
    kind, value = wanted
    if kind == "variance":
        explained = np.cumsum(variances) / max(float(variances.sum()), np.finfo(np.float64).tiny)
        stored = min(int(np.searchsorted(explained, value - 1e-12)) + 1, dimensions)
    else:
        stored = max(1, round(value * dimensions)) if kind == "part" else int(value)
    _check_stored("pca", stored, dimensions)
    return Projection(mean.astype(np.float32), np.ascontiguousarray(vectors[:, :stored].T, np.float32))


def random_projection(sample: NDArray[np.float32], stored: int, seed: int) -> Projection:
    """Orthonormal rows in a random direction: what PCA has to beat."""
    dimensions = sample.shape[1]
    _check_stored("random_projection", stored, dimensions)
    gaussian = np.random.default_rng(seed).standard_normal((dimensions, stored))
    basis, _ = np.linalg.qr(gaussian)
    mean = sample.mean(axis=0, dtype=np.float64) if len(sample) else np.zeros(dimensions)
    return Projection(mean.astype(np.float32), np.ascontiguousarray(basis.T, np.float32))


def load_projection(path: str, dimensions: int) -> Projection:
    """``mean`` [D] and ``components`` [d, D] (orthonormal rows, as scikit-learn's PCA has them) of a safetensors file.

    Raises :class:`InvalidParameter` where they are missing or do not fit, :class:`CorruptFile` for damaged files.
    """
    try:
        size = Path(path).stat().st_size
        if size > _MAX_FILE_BYTES:
            raise InvalidParameter(f"{path} has {size:,} bytes; a projection has at most {_MAX_FILE_BYTES:,}")
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot open {path}: {error.strerror or error}") from error
    tensors, _ = read_safetensors(data, name=path, limits=DEFAULT_LIMITS)
    arrays = {}
    for name in ("mean", "components"):
        if name not in tensors or tensors[name].dtype not in ("F64", "F32", "F16", "BF16"):
            raise InvalidParameter(
                f"{path} has no floating-point tensor {name!r}; it needs mean [D], components [d, D]"
            )
        tensor = tensors[name]
        wide = from_bfloat16(tensor.data) if tensor.dtype == "BF16" else tensor.data
        arrays[name] = np.ascontiguousarray(wide, np.float32)
    mean, components = arrays["mean"], arrays["components"]
    if mean.shape != (dimensions,) or components.ndim != 2 or components.shape[1] != dimensions:
        raise InvalidParameter(
            f"{path}: mean {list(mean.shape)} and components {list(components.shape)} do not fit vectors of "
            f"{dimensions} dimensions"
        )
    _check_stored(path, len(components), dimensions)
    gram = components.astype(np.float64) @ components.T.astype(np.float64)
    if not np.isfinite(mean).all() or not np.allclose(gram, np.eye(len(gram)), atol=1e-2):
        raise InvalidParameter(f"{path}: the rows of its components are not orthonormal")
    return Projection(mean, components)


def _check_stored(what: str, stored: int, dimensions: int) -> None:
    if not 1 <= stored <= dimensions:
        raise InvalidParameter(f"{what}: {stored} dimensions are not within 1 to the {dimensions} of the input")
