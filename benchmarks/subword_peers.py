"""Subword tokenizers that people train, on the same text: byte-level BPE, SentencePiece unigram and BPE."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..formats.errors import ExternalFailure

__all__ = ["PEERS", "peer_tokenizers"]

PEERS = ("byte-bpe", "unigram", "bpe")
_VOCABULARY = 65536


def peer_tokenizers(
    documents: Sequence[NDArray[np.uint8]], text: bytes, kinds: Sequence[str] = PEERS
) -> Iterator[tuple[str, int]]:
    """Train each peer of ``kinds`` on ``documents``; its name and how many tokens it makes of ``text``.

    Raises :class:`ExternalFailure` when a peer is not installed.
    """
    try:
        import sentencepiece  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
        import tokenizers  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError as error:
        raise ExternalFailure(f"comparing tokenizers needs {error.name}; pip install codeckit[bench]") from error
    training = "".join(document.tobytes().decode("utf-8", "replace") for document in documents)
    lines = training.splitlines(keepends=True)
    content = text.decode("utf-8", "replace")
    if "byte-bpe" in kinds:
        yield "byte-level BPE (tokenizers)", _byte_level_bpe(lines, content)
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name, "training.txt")
        corpus.write_text(training, encoding="utf-8")
        for kind in (kind for kind in ("unigram", "bpe") if kind in kinds):
            yield f"SentencePiece {kind}", _sentencepiece(corpus, kind, content)


def _byte_level_bpe(lines: Sequence[str], text: str) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return len(tokenizer.encode(text).ids)


def _sentencepiece(corpus: Path, kind: str, text: str) -> int:
    """Lossless settings; SentencePiece codes line by line, so each line's end counts as one more token."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(corpus.with_suffix("")),
        vocab_size=_VOCABULARY,
        model_type=kind,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        byte_fallback=True,
        character_coverage=1.0,
        max_sentence_length=200_000,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(corpus.with_suffix(".model")))
    lines = text.split("\n")
    return sum(len(ids) for ids in processor.encode(lines)) + len(lines) - 1
