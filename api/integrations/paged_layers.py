"""The pages of a layer in vLLM, [blocks, heads, block size, channels], read and written by token.

Attention layers have the key in the first half of the channels and the value in the second; latent-attention layers
have one head of latent and rotary key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile
from ..formats.tensors import natural_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..codecs.kv.streaming import DecodedLayer

__all__ = ["gather", "scatter"]


def gather(pages: Any, block_ids: Sequence[int], start: int, stop: int, *, latent: bool) -> Any:
    """Tokens ``start`` to ``stop`` of ``pages``: a tensor [2, tokens, heads * head_dim], or [1, tokens, width]."""
    import torch

    rows = pages[_places(pages, block_ids, start, stop)]  # [tokens, heads, channels]
    if latent:
        return rows.movedim(1, 0).contiguous()
    key, value = rows.chunk(2, dim=-1)
    return torch.stack([key.flatten(1), value.flatten(1)])


def scatter(pages: Any, block_ids: Sequence[int], piece: DecodedLayer, first: int) -> None:
    """Put the tokens of ``piece`` from token ``first`` on into ``pages``.

    Raises :class:`CorruptFile` where the piece has other heads or channels than the pages.
    """
    import torch

    start = max(piece.start, first)
    if start >= piece.stop:
        return
    parts = []
    for role in ("key", "value") if "key" in piece.parts else ("latent", "rope_key"):
        value = natural_value(piece.parts[role])
        tensor = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        parts.append(tensor[:, start - piece.start :].movedim(0, 1))
    rows = torch.cat(parts, dim=-1)  # [tokens, heads, channels]
    if rows.shape[1:] != (pages.shape[1], pages.shape[3]) or rows.dtype != pages.dtype:
        raise CorruptFile(
            f"a stored layer has {rows.shape[1]} heads of {rows.shape[2]} channels in {rows.dtype}, "
            f"the pages {pages.shape[1]} of {pages.shape[3]} in {pages.dtype}"
        )
    pages[_places(pages, block_ids, start, piece.stop)] = rows.to(pages.device)


def _places(pages: Any, block_ids: Sequence[int], start: int, stop: int) -> tuple[Any, slice, Any]:
    import torch

    size = pages.shape[2]
    tokens = torch.arange(start, stop)
    blocks = torch.tensor(block_ids)[tokens // size]
    return blocks.to(pages.device), slice(None), (tokens % size).to(pages.device)
