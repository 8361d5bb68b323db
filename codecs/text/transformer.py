"""A plain decoder-only transformer over ids: the paper's byte model M1, and its M2 that reads tokens.

Its arithmetic is in floating point and depends on the machine, so no codec decodes with it (docs/text.md); it is here
to be trained and compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["TransformerSettings", "bits_per_token", "train_transformer", "transformer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSettings:
    """Size and training of the model; a step sees ``batch`` sequences of ``context`` tokens."""

    width: int = 160
    layers: int = 4
    heads: int = 4
    context: int = 128
    batch: int = 16
    steps: int = 200
    rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.batch, self.steps) < 1 or self.context < 2:
            raise InvalidParameter("width, layers, heads, batch and steps are at least 1, context at least 2")
        if self.width % self.heads:
            raise InvalidParameter(f"width={self.width} is no multiple of heads={self.heads}")


def train_transformer(
    train: NDArray[Any], vocabulary: int, settings: TransformerSettings, report: Callable[[int, float], None]
) -> Any:
    """A model of ids below ``vocabulary``, trained on the ids ``train``; ``report`` is told the bits per id at times.

    Sequences begin at multiples of the context, so that a token's place within its window shows in its position.
    Raises :class:`InvalidParameter` when ``train`` is shorter than the context.
    """
    import torch
    from torch.nn import functional as F

    sequences = _sequences(train, settings.context)
    if not len(sequences):
        raise InvalidParameter(f"{len(train):,} ids are fewer than the context of {settings.context}")
    torch.manual_seed(settings.seed)
    model = transformer(vocabulary, settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.05)
    warm = max(1, settings.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 1.0) * 0.5 * (1 + np.cos(np.pi * step / settings.steps))
    )
    generator = np.random.default_rng(settings.seed)
    for step in range(settings.steps):
        rows = sequences[generator.integers(0, len(sequences), settings.batch)]
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 19 or step + 1 == settings.steps:
            report(step + 1, float(loss.detach()) / float(np.log(2)))
    return model


def _sequences(ids: NDArray[Any], context: int) -> Any:
    """Rows of ``context`` ids with a start symbol before them (id 0), so that every id is predicted once."""
    import torch

    rows = len(ids) // context
    body = torch.from_numpy(ids[: rows * context].astype(np.int64)).reshape(rows, context)
    return torch.nn.functional.pad(body, (1, 0))


def bits_per_token(model: Any, ids: NDArray[Any], settings: TransformerSettings) -> float:
    """Mean bits per id that ``model`` needs for ``ids``, in sequences of the context, each from its beginning."""
    import torch
    from torch.nn import functional as F

    sequences = _sequences(ids, settings.context)
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(sequences), settings.batch):
            rows = sequences[start : start + settings.batch]
            logits = model(rows[:, :-1])
            total += float(F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"))
    return float(total / np.log(2) / (len(sequences) * settings.context))


def transformer(vocabulary: int, settings: TransformerSettings) -> Any:
    """The untrained network (a ``torch.nn.Module``): ids [batch, length] to logits [batch, length, vocabulary]."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        """Attention and a feed-forward layer, each after a normalisation."""

        def __init__(self) -> None:
            super().__init__()
            width = settings.width
            self.before = nn.LayerNorm(width)
            self.attention = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.between = nn.LayerNorm(width)
            self.up = nn.Linear(width, 4 * width)
            self.down = nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            batch, length, width = x.shape
            parts = self.attention(self.before(x)).reshape(batch, length, 3, settings.heads, width // settings.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(F.gelu(self.up(self.between(x))))

    class Transformer(nn.Module):
        """Tied embeddings and learned positions."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, settings.width)
            self.position = nn.Parameter(torch.randn(settings.context, settings.width) * 0.02)
            self.blocks = nn.Sequential(*(Block() for _ in range(settings.layers)))
            self.norm = nn.LayerNorm(settings.width)
            nn.init.normal_(self.embedding.weight, std=0.02)

        def forward(self, ids: Any) -> Any:
            x = self.embedding(ids) + self.position[: ids.shape[1]]
            return self.norm(self.blocks(x)) @ self.embedding.weight.T

    return Transformer()
