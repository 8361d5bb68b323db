"""The tensors of serving engines as caches, and back.

LMCache keeps a chunk as [2, layers, tokens, heads * head_dim], or [1, layers, tokens, width] for latent attention.
A chunk does not say at which positions its tokens stood. Undoing the rotary embedding as if they began at 0 leaves a
rotation that is the same for all of them, and a model learned from the chunk does not mind it; a trained profile does,
so a profile needs the true positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codecs.kv.cache import Cache, CacheTable, LayerTable, PartTable, Rotary
from ..formats.errors import CorruptFile, InvalidParameter, UnsupportedInput
from ..formats.tensors import Tensor, as_tensor, natural_value

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EngineLayout", "cache_from_groups", "copy_to_groups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayout:
    """What an engine's tensors do not say themselves.

    ``head_dim`` splits hidden dimensions into heads; ``latent_width`` splits those of latent attention into latent and
    rotary key; ``rope_theta`` and ``rope_style`` describe the rotary embedding, without which keys are taken as they
    are.
    """

    head_dim: int | None = None
    latent_width: int | None = None
    rope_theta: float | None = None
    rope_style: str = "half"
    model: str = ""

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> EngineLayout:
        """Check and convert what came out of a configuration file; takes only the names of the fields above."""
        head_dim, latent = settings.get("head_dim"), settings.get("latent_width")
        theta = settings.get("rope_theta")
        for name, value in (("head_dim", head_dim), ("latent_width", latent)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InvalidParameter(f"{name}={value!r} is not a positive whole number")
        if theta is not None and not isinstance(theta, (int, float)):
            raise InvalidParameter(f"rope_theta={theta!r} is not a number")
        return cls(
            head_dim=head_dim,  # type: ignore[arg-type]
            latent_width=latent,  # type: ignore[arg-type]
            rope_theta=None if theta is None else float(theta),
            rope_style=str(settings.get("rope_style", "half")),
            model=str(settings.get("model", "")),
        )

    def parts(self, planes: int, width: int, dtype: str) -> tuple[PartTable, ...]:
        """The parts of a layer whose tensor has ``planes`` planes of ``width`` channels."""
        if planes == 2:
            head_dim = self.head_dim or width
            if width % head_dim:
                raise InvalidParameter(f"head_dim={head_dim} does not divide the hidden dimension {width}")
            heads = width // head_dim
            return (
                PartTable(role="key", heads=heads, width=head_dim, dtype=dtype),
                PartTable(role="value", heads=heads, width=head_dim, dtype=dtype),
            )
        if planes == 1 and self.latent_width is not None and self.latent_width < width:
            return (
                PartTable(role="latent", heads=1, width=self.latent_width, dtype=dtype),
                PartTable(role="rope_key", heads=1, width=width - self.latent_width, dtype=dtype),
            )
        if planes == 1:
            raise InvalidParameter(f"latent attention of width {width} needs latent_width, which must be less")
        raise UnsupportedInput(f"a tensor of {planes} planes; expected 2 (keys and values) or 1 (latents)")

    def rotary(self, parts: tuple[PartTable, ...]) -> Rotary | None:
        if self.rope_theta is None:
            return None
        rotated = next(part for part in parts if part.rotated)
        return Rotary.from_theta(self.rope_theta, rotated.width, self.rope_style)  # type: ignore[arg-type]


def cache_from_groups(groups: Sequence[Any], layout: EngineLayout, positions: Any = None) -> Cache:
    """A cache from tensors [planes, layers, tokens, width], one for each group of equal layers, in order.

    ``positions`` [tokens] must follow one another; None means unknown, and they are taken to begin at 0.

    Raises :class:`UnsupportedInput` or :class:`InvalidParameter` for anything that is no such tensor.
    """
    first = _first_position(positions)
    layers: list[LayerTable] = []
    parts: dict[tuple[int, str], Tensor] = {}
    tokens = None
    for group, value in enumerate(groups):
        tensor = as_tensor(value, f"group {group}")
        if tensor.data.ndim != 4 or 0 in tensor.shape:
            raise UnsupportedInput(
                f"group {group} has the shape {list(tensor.shape)}; expected [2, layers, tokens, width]"
            )
        planes, count, own_tokens, width = tensor.shape
        if tokens not in (None, own_tokens):
            raise UnsupportedInput(f"group {group} has {own_tokens} tokens, the groups before it {tokens}")
        tokens = own_tokens
        row = layout.parts(planes, width, tensor.dtype)
        for layer in range(count):
            for part, data in _split(tensor.data[:, layer], row):
                parts[len(layers), part.role] = Tensor(dtype=tensor.dtype, data=data)
            layers.append(LayerTable(parts=row))
    if tokens is None:
        raise UnsupportedInput("there is no tensor to store")
    table = CacheTable(
        layers=tuple(layers),
        tokens=tokens,
        rotary=layout.rotary(layers[0].parts),
        first_position=first,
        model=layout.model,
    )
    return Cache(table=table, parts=parts)


def copy_to_groups(cache: Cache, groups: Sequence[Any], layout: EngineLayout) -> None:
    """Copy ``cache`` into torch tensors of the shapes it was made from.

    Raises :class:`CorruptFile` where the cache has another shape or type than the tensors.
    """
    expected = cache_from_groups(groups, layout).table
    found = cache.table
    if replace(found, first_position=0, rotary=None, model="") != replace(expected, rotary=None, model=""):
        raise CorruptFile(
            f"the stored cache has {len(found.layers)} layers of {found.tokens} tokens, or parts, that differ from "
            f"the {len(expected.layers)} layers of {expected.tokens} tokens to be filled"
        )
    layer = 0
    for target in groups:
        for number in range(target.shape[1]):
            row = found.layers[layer].parts
            for part, place in _split(target[:, number], row):
                # NumPy has no bfloat16: through the type that torch has for it
                place.copy_(_torch(cache.parts[layer, part.role]))
            layer += 1


def _split(plane: Any, row: tuple[PartTable, ...]) -> Iterator[tuple[PartTable, Any]]:
    """Views [heads, tokens, width] of ``plane`` [planes, tokens, width], NumPy or torch."""
    if row[0].role == "key":
        for index, part in enumerate(row):
            yield part, plane[index].reshape(-1, part.heads, part.width).swapaxes(0, 1)
        return
    start = 0
    for part in row:
        yield part, plane[:, :, start : start + part.width]
        start += part.width


def _torch(tensor: Tensor) -> Any:
    import torch

    value = natural_value(tensor)
    return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value


def _first_position(positions: Any) -> int:
    if positions is None:
        return 0
    values = np.asarray(positions, np.int64)
    if values.ndim != 1 or values.size == 0 or (np.diff(values) != 1).any() or values[0] < 0:
        raise UnsupportedInput("the positions of the tokens do not follow one another")
    return int(values[0])
