"""What stages know of a model's heads: which of them retrieve, and how large their queries are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....formats.errors import CorruptFile, InvalidParameter
from ....formats.limits import DEFAULT_LIMITS
from ....formats.safetensors_file import Tensor, read_safetensors, write_safetensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..cache import CacheTable

    Floats = NDArray[np.float32]

__all__ = ["HeadProfile", "find_head_profile", "load_head_profile", "save_head_profile"]

_FORMAT = "codeckit.kv-heads"
_FOLDER = Path(__file__).parent / "profiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadProfile:
    """Scores float32 [layers, heads] in 0..1 and the largest query magnitudes float32 [layers, heads, width].

    Heads are key-value heads; each has the largest figure of the query heads in its group.
    """

    model: str
    induction: Floats
    echo: Floats
    query_peaks: Floats

    def check_fits(self, table: CacheTable) -> None:
        """Raise :class:`InvalidParameter` unless caches like ``table`` are what this profile was made for."""
        if table.model and self.model and table.model != self.model:
            raise InvalidParameter(
                f"the cache is of model {table.model!r}, the heads' profile of {self.model!r}; use one made for it"
            )
        shape = self.query_peaks.shape
        for number, layer in enumerate(table.layers):
            part = layer.parts[0]
            if part.role != "key" or (len(table.layers), part.heads, part.width) != shape:
                raise InvalidParameter(
                    f"the heads' profile of {self.model!r} is for {shape[0]} layers of {shape[1]} heads of {shape[2]} "
                    f"channels; layer {number} of the cache ({len(table.layers)} layers) has {part.heads} heads of "
                    f"{part.width} channels of {part.role}"
                )


def find_head_profile(name: str, table: CacheTable) -> HeadProfile | None:
    """The profile called ``name``: ``none``, ``auto`` (a shipped one for the cache's model, else none), or a path.

    Raises :class:`InvalidParameter` when a named one is missing or made for another model.
    """
    if name == "none":
        return None
    path = Path(name)
    if name == "auto":
        path = _FOLDER / f"{table.model}.safetensors"
        plain = table.model and "/" not in table.model and not table.model.startswith(".")
        if not plain or not path.is_file():
            return None
    profile = load_head_profile(path)
    profile.check_fits(table)
    return profile


def load_head_profile(path: Path) -> HeadProfile:
    """Raises :class:`InvalidParameter` for a missing file, :class:`CorruptFile` for one that is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"cannot read the heads' profile {path}: {error.strerror or error}") from error
    tensors, metadata = read_safetensors(data, name=str(path), limits=DEFAULT_LIMITS)
    if metadata.get("format") != _FORMAT:
        raise CorruptFile(f"{path} is not a {_FORMAT} file; make one with `codec train kv-heads`")
    arrays: list[Floats] = []
    for name, axes in (("induction", 2), ("echo", 2), ("query_peaks", 3)):
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != "F32" or len(tensor.shape) != axes or not np.isfinite(tensor.data).all():
            raise CorruptFile(f"{path}: {name} is missing or is not finite float32 with {axes} axes")
        arrays.append(tensor.data)
    if not arrays[0].shape == arrays[1].shape == arrays[2].shape[:2]:
        raise CorruptFile(f"{path}: its tensors disagree about layers and heads")
    return HeadProfile(model=metadata.get("model", ""), induction=arrays[0], echo=arrays[1], query_peaks=arrays[2])


def save_head_profile(profile: HeadProfile, stream: Any) -> None:
    """Write ``profile`` to a binary stream."""
    arrays = {"induction": profile.induction, "echo": profile.echo, "query_peaks": profile.query_peaks}
    tensors = {
        name: Tensor(dtype="F32", data=np.ascontiguousarray(array, np.float32)) for name, array in arrays.items()
    }
    write_safetensors(stream, tensors, {"format": _FORMAT, "model": profile.model})
