"""A small decoder-only transformer, to see what a language model learns from tokens of one kind or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["LanguageModelSettings", "train_and_judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelSettings:
    """Size and training of the model; a step sees ``batch`` sequences of ``context`` tokens."""

    width: int = 160
    layers: int = 4
    heads: int = 4
    context: int = 128
    batch: int = 16
    steps: int = 200
    rate: float = 2e-3
    seed: int = 0


def train_and_judge(
    train: NDArray[Any],
    test: NDArray[Any],
    vocabulary: int,
    settings: LanguageModelSettings,
    report: Callable[[int, float], None],
) -> tuple[int, float]:
    """Train on ids ``train``; return the number of parameters and the mean bits per token on ``test``.

    Sequences begin at multiples of the context, so that a token's place within its window shows in its position.
    """
    import torch
    from torch.nn import functional as F

    torch.manual_seed(settings.seed)
    model = _transformer(vocabulary, settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.05)
    warm = max(1, settings.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 1.0) * 0.5 * (1 + np.cos(np.pi * step / settings.steps))
    )
    generator = np.random.default_rng(settings.seed)
    sequences = _sequences(train, settings.context)
    for step in range(settings.steps):
        rows = sequences[generator.integers(0, len(sequences), settings.batch)]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(rows[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            report(step + 1, float(loss.detach()) / float(np.log(2)))
    parameters = sum(item.numel() for item in model.parameters())
    return parameters, _bits_per_token(model, _sequences(test, settings.context), settings.batch)


def _sequences(ids: NDArray[Any], context: int) -> Any:
    """Rows of ``context`` ids with a start symbol before them (id 0), so that every id is predicted once."""
    import torch

    rows = len(ids) // context
    body = torch.from_numpy(ids[: rows * context].astype(np.int64)).reshape(rows, context)
    return torch.nn.functional.pad(body, (1, 0))


def _bits_per_token(model: Any, sequences: Any, batch: int) -> float:
    import torch
    from torch.nn import functional as F

    total = 0.0
    with torch.no_grad():
        for start in range(0, len(sequences), batch):
            rows = sequences[start : start + batch]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(rows[:, :-1])
            total += float(F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"))
    tokens = len(sequences) * (sequences.shape[1] - 1)
    return float(total / np.log(2) / tokens)


def _transformer(vocabulary: int, settings: LanguageModelSettings) -> Any:
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
