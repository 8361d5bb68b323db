"""Reference caches of real text, kept in the user's cache folder, and what a decoded cache is worth."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codeckit.codecs.kv.model_caches import continue_from, load_model, record_cache
from codeckit.codecs.kv.training import model_rotary, read_texts
from codeckit.formats.errors import InvalidParameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from codeckit.kv import CacheSlots

    Floats = NDArray[np.float32]

__all__ = ["Quality", "Reference", "ReferenceCaches"]

_QUESTION = "\n USER: What is the first topic we discussed? \n ASSISTANT: The first topic we discussed was"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The uncompressed cache of one document: float32 [layers, kv_heads, tokens, head_dim], and what follows it."""

    row: int
    keys: Floats
    values: Floats
    attention_mass: Floats
    continuation: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A decoded cache against the uncompressed one, over the continuation of one document.

    ``kl`` in nats per token; ``answer_nats`` is the log-probability of the document's first topic as the answer to the
    question for it, with the reference cache and with the decoded one.
    """

    kl: float
    top1: float
    perplexity: float
    reference_perplexity: float
    answer_nats: float
    reference_answer_nats: float


class ReferenceCaches:
    """Loads the model when first needed; one document at a time is held in memory."""

    def __init__(self, model: str, data: Path, context_tokens: int, continuation_tokens: int) -> None:
        self._name = model
        self._data = data
        self._context_tokens = context_tokens
        self._continuation_tokens = continuation_tokens
        self._loaded: tuple[Any, Any] | None = None
        self._scores: dict[int, tuple[Floats, float]] = {}

    @property
    def loaded(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = load_model(self._name)
        return self._loaded

    def read(self, row: int) -> Reference:
        """The cache of line ``row`` of the data."""
        label = Path(self._name).name
        name = f"{label}-{self._data.stem}-{row}-{self._context_tokens}-{self._continuation_tokens}.npz"
        path = _folder() / name
        if not path.is_file():
            tokenizer, model = self.loaded
            needed = self._context_tokens + self._continuation_tokens
            ids = next(read_texts([self._data], tokenizer, f"{row}:{row + 1}", needed), None)
            if ids is None:
                raise InvalidParameter(f"line {row} of {self._data} has fewer than {needed} tokens")
            recorded = record_cache(model, ids, context_tokens=self._context_tokens)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.npz")
            np.savez(
                temporary,
                keys=recorded.keys,
                values=recorded.values,
                attention_mass=recorded.attention_mass,
                token_ids=recorded.token_ids,
            )
            temporary.replace(path)
        with np.load(path) as stored:
            return Reference(
                row=row,
                keys=stored["keys"],
                values=stored["values"],
                attention_mass=stored["attention_mass"],
                continuation=stored["token_ids"][self._context_tokens :],
            )

    def rotary(self) -> Any:
        """The rotary embedding of the model."""
        return model_rotary(self.loaded[1])

    def judge(
        self, reference: Reference, keys: Floats, values: Floats, topic: str, slots: CacheSlots | None = None
    ) -> Quality:
        """Run the model on a decoded cache, with the mask and positions of its ``slots`` where it has them."""
        model = self.loaded[1]
        if reference.row not in self._scores:
            exact = continue_from(model, reference.keys, reference.values, reference.continuation)
            self._scores[reference.row] = (
                exact,
                self._answer(reference.keys, reference.values, topic, None),
            )
        exact, exact_answer = self._scores[reference.row]
        found = continue_from(model, keys, values, reference.continuation, slots)
        following = reference.continuation[1:, None]
        probabilities = np.exp(exact, dtype=np.float64)
        return Quality(
            kl=float((probabilities * (exact - found)).sum(axis=1).mean()),
            top1=float((exact.argmax(axis=1) == found.argmax(axis=1)).mean()),
            perplexity=_perplexity(found, following),
            reference_perplexity=_perplexity(exact, following),
            answer_nats=self._answer(keys, values, topic, slots),
            reference_answer_nats=exact_answer,
        )

    def _answer(self, keys: Floats, values: Floats, topic: str, slots: CacheSlots | None) -> float:
        """Log-probability of ``topic`` as the answer to the question for the first topic."""
        tokenizer, model = self.loaded
        question = tokenizer(_QUESTION).input_ids
        ids = np.asarray([*question, *tokenizer(" " + topic).input_ids], np.int64)
        scores = continue_from(model, keys, values, ids, slots)
        places = np.arange(len(question), len(ids))
        return float(scores[places - 1, ids[places]].sum())


def _perplexity(scores: Floats, following: NDArray[np.int64]) -> float:
    return float(np.exp(-np.take_along_axis(scores[:-1], following, axis=1).mean(dtype=np.float64)))


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "codeckit" / "kv"
