"""Weights of a CompressAI network as this codec uses them: floats outside, integers where symbols depend on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...entropy import FrequencyTable
from ...formats.atomic_file import AtomicFile
from ...formats.errors import CodecError, CorruptFile, ExternalFailure
from ...formats.limits import Limits
from ...formats.safetensors_file import Tensor, dtype_name, read_safetensors, write_safetensors

__all__ = ["ARCHITECTURES", "FORMAT", "FRACTION_BITS", "Model", "load_model", "packaged_model_path", "save_model"]

ARCHITECTURES = ("factorized", "hyperprior", "mean-scale")
FORMAT = "codeckit-compressai-1"
FRACTION_BITS = 10
"""Activations of the exact network, and medians, are whole numbers of 1/1024."""

_MAX_FILE_BYTES = 512 << 20
_MAX_CHANNELS = 1024
_LARGEST_INTEGER = 1 << 52


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A network's weights.

    ``tensors``: ``g_a.*``, ``g_s.*`` and ``h_a.*`` are floats under CompressAI's names, with ``beta`` and ``gamma`` of
    normalisations as they are used; ``h_s.*`` are integers; ``prior.*`` are the tables of the factorised prior and
    ``gains``, ``inverse_gains`` factors ``[levels, channels]``. ``sha256``: hex digest of the file.
    """

    architecture: str
    tensors: Mapping[str, NDArray[Any]]
    sha256: str

    @property
    def has_hyperprior(self) -> bool:
        """Whether the latents' tables come from side information."""
        return self.architecture != "factorized"

    @property
    def channels(self) -> int:
        """Latent channels, CompressAI's M."""
        return int(self.tensors["g_a.6.weight"].shape[0])

    @property
    def side_channels(self) -> int:
        """Channels of the side information; 0 without a hyperprior."""
        return len(self.tensors["prior.medians"]) if self.has_hyperprior else 0

    @property
    def levels(self) -> int:
        """Rates that the weights serve."""
        return len(self.tensors["gains"])

    @cached_property
    def prior_tables(self) -> tuple[FrequencyTable, ...]:
        """The table of each channel that the factorised prior codes."""
        ends = np.cumsum(self.tensors["prior.slots"])
        rows = np.split(self.tensors["prior.frequencies"], ends[:-1])
        minima = self.tensors["prior.minima"]
        return tuple(FrequencyTable(row, minimum=int(low), escape=True) for row, low in zip(rows, minima, strict=True))

    def gains(self, quality: int | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factors before rounding and after it, float32 ``[channels]``: logarithms interpolated between levels."""
        position = 0.0 if quality is None else quality / 100 * (self.levels - 1)
        below = min(int(position), self.levels - 1)
        above, part = min(below + 1, self.levels - 1), position - below
        chosen = []
        for name in ("gains", "inverse_gains"):
            logarithms = np.log(self.tensors[name].astype(np.float64))
            chosen.append(np.exp((1 - part) * logarithms[below] + part * logarithms[above]).astype(np.float32))
        return chosen[0], chosen[1]


def packaged_model_path() -> Path:
    """The weights that come with the package."""
    return Path(__file__).with_name("photographs.safetensors")


def load_model(path: Path) -> Model:
    """Read weights written by :func:`save_model`; a file that has not changed is read once per process.

    Raises :class:`ExternalFailure` where there is no such file, :class:`CorruptFile` where it holds something else.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ExternalFailure(f"cannot read the weights {path}: {error.strerror or error}") from error
    return _load(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4)
def _load(path: Path, size_bytes: int, changed_ns: int, inode: int) -> Model:
    try:
        if size_bytes > _MAX_FILE_BYTES:
            raise CorruptFile(f"{path}: larger than {_MAX_FILE_BYTES:,} bytes, no weights of this codec")
        content = path.read_bytes()
    except OSError as error:
        raise ExternalFailure(f"cannot read the weights {path}: {error.strerror or error}") from error
    found, metadata = read_safetensors(content, name=str(path), limits=Limits())
    tensors = {name: tensor.data for name, tensor in found.items()}
    architecture = metadata.get("architecture", "")
    if metadata.get("format") != FORMAT or architecture not in ARCHITECTURES:
        raise CorruptFile(f"{path}: not weights of this codec; `codec train compressai` makes or converts them")
    model = Model(architecture=architecture, tensors=tensors, sha256=hashlib.sha256(content).hexdigest())
    try:
        _check(model)
    except (CodecError, KeyError, IndexError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path}: its tensors do not fit one another: {error}") from error
    return model


def save_model(architecture: str, tensors: Mapping[str, NDArray[Any]], path: Path, made_by: Mapping[str, str]) -> None:
    """Write weights, whole or not at all; ``made_by`` goes into the file's metadata."""
    held = {name: Tensor(dtype=dtype_name(array.dtype), data=array) for name, array in tensors.items()}
    metadata = {**made_by, "architecture": architecture, "format": FORMAT}
    with AtomicFile(path, overwrite=True) as file:
        write_safetensors(file.stream, held, metadata)
        file.commit()


def _check(model: Model) -> None:
    tensors = model.tensors
    channels, inner = model.channels, len(tensors["g_a.0.weight"])
    if not (1 <= channels <= _MAX_CHANNELS and 1 <= inner <= _MAX_CHANNELS):
        raise CorruptFile(f"{inner} and {channels} channels")
    if tensors["prior.medians"].ndim != 1:
        raise CorruptFile("prior.medians are not a row")
    coded = len(tensors["prior.medians"])
    floats = _float_shapes(channels, inner) | dict.fromkeys(("gains", "inverse_gains"), tensors["gains"].shape)
    integers: dict[str, tuple[int, ...]] = {f"prior.{name}": (coded,) for name in ("medians", "minima", "slots")}
    integers["prior.frequencies"] = (int(tensors["prior.slots"].astype(np.int64).sum()),)
    if model.has_hyperprior:
        floats |= _side_shapes(channels, inner, coded)
        integers |= _synthesis_shapes(channels, inner, coded, with_means=model.architecture == "mean-scale")
    for expected, kinds in ((floats, "f"), (integers, "iu")):
        for name, shape in expected.items():
            if tensors[name].shape != shape:
                raise CorruptFile(f"{name} is {list(tensors[name].shape)}, expected {list(shape)}")
            if tensors[name].dtype.kind not in kinds:
                raise CorruptFile(f"{name} has the type {tensors[name].dtype}")
    if not all(np.isfinite(tensors[name]).all() for name in floats):
        raise CorruptFile("a weight is not finite")
    if any(np.abs(tensors[name].astype(np.float64)).max(initial=0) > _LARGEST_INTEGER for name in integers):
        raise CorruptFile(f"an integer is beyond {_LARGEST_INTEGER:,}")
    if tensors["gains"].ndim != 2 or tensors["gains"].shape[1] != channels or not len(tensors["gains"]):
        raise CorruptFile(f"gains are {list(tensors['gains'].shape)}")
    if not all(np.isfinite(tensors[name]).all() and (tensors[name] > 0).all() for name in ("gains", "inverse_gains")):
        raise CorruptFile("gains must be positive")
    if not model.has_hyperprior and coded != channels:
        raise CorruptFile(f"tables for {coded} of {channels} channels")
    if len(model.prior_tables) != coded:
        raise CorruptFile("a table is missing")


def _float_shapes(channels: int, inner: int) -> dict[str, tuple[int, ...]]:
    """Of analysis and synthesis."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (into, out) in enumerate(((3, inner), (inner, inner), (inner, inner), (inner, channels))):
        name = f"g_a.{2 * number}"
        shapes |= {f"{name}.weight": (out, into, 5, 5), f"{name}.bias": (out,)}
    for number, (into, out) in enumerate(((channels, inner), (inner, inner), (inner, inner), (inner, 3))):
        name = f"g_s.{2 * number}"
        shapes |= {f"{name}.weight": (into, out, 5, 5), f"{name}.bias": (out,)}
    for part in ("g_a", "g_s"):
        for number in (1, 3, 5):
            shapes |= {f"{part}.{number}.beta": (inner,), f"{part}.{number}.gamma": (inner, inner)}
    return shapes


def _side_shapes(channels: int, inner: int, coded: int) -> dict[str, tuple[int, ...]]:
    """Of the hyper-analysis."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (into, out, side) in enumerate(((channels, inner, 3), (inner, inner, 5), (inner, coded, 5))):
        name = f"h_a.{2 * number}"
        shapes |= {f"{name}.weight": (out, into, side, side), f"{name}.bias": (out,)}
    return shapes


def _synthesis_shapes(channels: int, inner: int, coded: int, *, with_means: bool) -> dict[str, tuple[int, ...]]:
    """Of the hyper-synthesis, whose first two layers are transposed."""
    first, second, last = (channels, channels * 3 // 2, 2 * channels) if with_means else (inner, inner, channels)
    weights = {"h_s.0": (coded, first, 5, 5), "h_s.2": (first, second, 5, 5), "h_s.4": (last, second, 3, 3)}
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in weights.items()}
    for name, out in (("h_s.0", first), ("h_s.2", second), ("h_s.4", last)):
        shapes |= {f"{name}.bias": (out,), f"{name}.shift": (1,)}
    return shapes
