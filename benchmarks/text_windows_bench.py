"""``codec bench text-windows``: tokens for language models on books that nothing was trained on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import codeckit
from codeckit.codecs.run_context import RunContext
from codeckit.codecs.text.windows.documents import held_out_titles, read_documents, training_documents
from codeckit.codecs.text.windows.parameters import WindowsParams
from codeckit.codecs.text.windows.scheme import load_scheme
from codeckit.codecs.text.windows.window_coding import cut_into_windows, information_bits
from codeckit.formats.errors import InvalidParameter
from codeckit.text import WindowTokenizer

from .data_sets import data_root
from .provenance import provenance
from .token_statistics import divergence_from_uniform, entropy_bits, surviving_share

__all__ = ["bench", "held_out_text"]

_BLOCK = 256 << 10
_SCHEMES: Mapping[str, Mapping[str, Any]] = {
    **{f"windows b={bits}": {"bits": bits} for bits in (16, 24, 32, 64, 128)},
    **{f"windows b={bits}, fewest": {"bits": bits, "parse": "fewest"} for bits in (16, 24, 32, 64, 128)},
    "windows b=16, reset every 2nd": {"bits": 16, "reset_every": 2},
    "windows b=16, never reset": {"bits": 16, "reset_every": 0},
    "windows b=32, never reset": {"bits": 32, "reset_every": 0},
    "windows b=16, delayed": {"bits": 16, "delayed": True},
    "windows b=64, delayed": {"bits": 64, "delayed": True},
    "dictionary, fewest tokens": {"mode": "dictionary"},
    "dictionary, longest match": {"mode": "dictionary", "parse": "longest"},
    "plain AC": {"mode": "ac"},
    "static AC": {"mode": "static"},
    "gzip": {"mode": "gzip"},
}


def bench(settings: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """Rates, speeds, token statistics and a small language model on held-out books.

    Settings: ``parts`` (of rates, speed, tokenizers, stability, table, model; joined by ``+``; default all),
    ``data`` (the books; default the training corpus, of which only ``held_out_books.txt`` is read), ``megabytes``
    (of held-out text, from equal shares of each book; default all), ``schemes`` (whose rates are taken, joined by
    ``;``; default all), ``steps`` (of the language model), ``peers`` (other tokenizers to train, of byte-bpe, unigram,
    bpe).
    """
    parts: Mapping[str, Callable[..., list[dict[str, Any]]]] = {
        "rates": _rates,
        "speed": _speed,
        "tokenizers": _tokenizers,
        "stability": _stability,
        "table": _table,
        "model": _language_models,
    }
    own = {
        "parts": "+".join(parts),
        "data": "",
        "megabytes": "0",
        "schemes": ";".join(_SCHEMES),
        "steps": "200",
        "peers": "byte-bpe+unigram+bpe",
    }
    for key, value in settings.items():
        if key not in own:
            raise InvalidParameter(f"no setting is called {key!r}; there are {', '.join(own)}")
        own[key] = value
    chosen = own["parts"].split("+")
    if not set(chosen) <= set(parts):
        raise InvalidParameter(f"parts={own['parts']} is not of {', '.join(parts)}")
    path = Path(own["data"]) if own["data"] else data_root() / "text" / "train" / "english-books.txt.xz"
    text = held_out_text(path, float(own["megabytes"]))
    where = {"benchmark": "text-windows", "data": "held-out books", "input_bytes": len(text), **provenance()}
    rows: list[dict[str, Any]] = []
    for part in chosen:
        rows += [{"part": part, **row, **where} for row in parts[part](text, path, own, context)]
    return rows


def held_out_text(path: Path, megabytes: float) -> bytes:
    """The held-out books, or the same share of the middle of each."""
    wanted = held_out_titles()
    books = [document.text for document in read_documents([path]) if document.title in wanted]
    if len(books) != len(wanted):
        raise InvalidParameter(f"{path} has {len(books)} of the {len(wanted)} held-out books")
    total = sum(len(book) for book in books)
    share = min(1.0, megabytes * 1e6 / total) if megabytes else 1.0
    pieces = []
    for book in books:
        size = int(len(book) * share)
        start = (len(book) - size) // 2
        pieces.append(book[start : start + size])
    return b"".join(pieces)


def _rates(text: bytes, path: Path, own: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    chosen = own["schemes"].split(";")
    if unknown := set(chosen) - set(_SCHEMES):
        raise InvalidParameter(f"no scheme is called {', '.join(sorted(unknown))}; there are {', '.join(_SCHEMES)}")
    rows = []
    for number, name in enumerate(chosen):
        scheme = _SCHEMES[name]
        coded = codeckit.encode(text, codec="windows", settings=scheme, context=context)
        if codeckit.decode(coded, context=context) != text:
            raise RuntimeError(f"{name} did not give the text back")
        with codeckit.open(coded) as reader:
            stream = b"".join(reader.token_bytes())
        wide = name.startswith(("dictionary", "windows b=16"))
        ids = np.frombuffer(stream, np.uint16 if wide else np.uint8)
        rows.append(
            {
                "scheme": name,
                "file_bytes": len(coded),
                "ratio": len(text) / len(coded),
                "bits_per_byte": 8 * len(coded) / len(text),
                "efficiency": _efficiency(text, scheme),
                "token_bits": 16 if wide else 8,
                "bytes_per_token": len(text) / len(ids),
                "uniform_bits_per_byte": ids.itemsize * 8 * len(ids) / len(text),
                "unigram_bits_per_byte": entropy_bits(ids) * len(ids) / len(text),
                **{f"divergence_{n}_bits": divergence_from_uniform(stream, n) for n in (1, 4, 8, 16)},
            }
        )
        context.report("rates", number + 1, len(chosen))
    return rows


def _efficiency(text: bytes, scheme: Mapping[str, Any]) -> float | None:
    """What the text is worth under the model over the bits of its windows; None for what has no windows."""
    params = WindowsParams(**{"block_kib": _BLOCK >> 10, **scheme})
    if params.mode != "windows":
        return None
    model = load_scheme(WindowsParams(mode="ac")).model
    if model is None:
        raise RuntimeError("the arithmetic code has no model")
    rule = load_scheme(params).rule
    information = bits = 0.0
    for start in range(0, len(text), _BLOCK):
        block = np.frombuffer(text[start : start + _BLOCK], np.uint8)
        windows, ends = cut_into_windows(block, model, rule)
        information += information_bits(block, ends, model, rule)
        bits += 8.0 * windows.size
    return information / bits


def _speed(text: bytes, path: Path, own: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """Best of several runs on one thread, on the whole text and back."""
    rows = []
    for name in ("windows b=16", "dictionary, longest match", "dictionary, fewest tokens", "windows b=32", "plain AC"):
        slow = name in ("windows b=32", "plain AC")
        data = np.frombuffer(text[: 100_000 if slow else len(text)], np.uint8)
        scheme = load_scheme(WindowsParams(**_SCHEMES[name]))
        blocks = [data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)]
        runs = 3 if slow else 9
        payloads, encode_seconds = _best(lambda: [scheme.encode(block) for block in blocks], runs)  # noqa: B023
        decoded, decode_seconds = _best(
            lambda: [scheme.decode(p, len(b), name) for p, b in zip(payloads, blocks, strict=True)],  # noqa: B023
            runs,
        )
        if b"".join(block.tobytes() for block in decoded) != data.tobytes():
            raise RuntimeError(f"{name} did not give the text back")
        rows.append(
            {
                "scheme": name,
                "encode_mb_per_second": len(data) / encode_seconds / 1e6,
                "decode_mb_per_second": len(data) / decode_seconds / 1e6,
            }
        )
    return rows


def _best(work: Callable[[], Any], runs: int) -> tuple[Any, float]:
    result = work()
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return result, best


def _tokenizers(text: bytes, path: Path, own: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """Other tokenizers with 65,536 ids, trained here on the same books, beside ours."""
    from .subword_peers import peer_tokenizers

    rows = []
    for name, scheme in _SCHEMES.items():
        if scheme.get("mode") == "dictionary":
            ids = WindowTokenizer(**scheme).encode(text)
            rows.append({"scheme": name, "tokens": len(ids), "bytes_per_token": len(text) / len(ids)})
    for name, count in peer_tokenizers(training_documents([path]), text, own["peers"].split("+")):
        rows.append({"scheme": name, "tokens": count, "bytes_per_token": len(text) / count})
        context.report("tokenizers", len(rows), None)
    return rows


def _stability(text: bytes, path: Path, own: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """Share of the tokens of a passage that stay when one word is put before it."""
    passages = [text[start : start + 2000] for start in range(0, len(text) - 2000, max(2000, len(text) // 100))]
    rows = []
    for name, scheme in _SCHEMES.items():
        wide = {"token_bits": 16 if name.startswith(("windows b=16", "dictionary")) else 8}
        tokenizer = WindowTokenizer(**{**scheme, **wide})
        before = tokenizer.encode_batch(passages)
        after = tokenizer.encode_batch([b"However, " + passage for passage in passages])
        rows.append({"scheme": name, "surviving_share": surviving_share(before, after)})
    return rows


def _table(text: bytes, path: Path, own: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """The most frequent windows of 16 bits and what they stand for."""
    tokenizer = WindowTokenizer(bits=16)
    ids = tokenizer.encode(text)
    found, counts = np.unique(ids, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:16]
    return [
        {"window": f"{int(found[k]):04x}", "text": repr(tokenizer.decode([int(found[k])]))[1:], "count": int(counts[k])}
        for k in order
    ]


@lru_cache(maxsize=1)
def _training_text(path: Path, size: int) -> bytes:
    """``size`` bytes from the middle of training books, in equal shares."""
    documents = training_documents([path])
    share = size // len(documents) + 1
    pieces = [document[len(document) // 2 : len(document) // 2 + share].tobytes() for document in documents]
    return b"".join(pieces)


def _language_models(text: bytes, path: Path, own: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """A small transformer on 8-bit tokens of each kind, trained on the same number of them."""
    import torch

    from codeckit.codecs.text.transformer import TransformerSettings, bits_per_token, train_transformer

    torch.set_num_threads(context.threads or 1)
    chosen = TransformerSettings(steps=int(own["steps"]))
    tokens = chosen.steps * chosen.batch * chosen.context
    rows = []
    kinds: Mapping[str, Mapping[str, Any] | None] = {
        "bytes": None,
        "plain AC": {"mode": "ac"},
        "windows b=16": {"bits": 16},
        "windows b=32": {"bits": 32},
    }
    for name, scheme in kinds.items():
        train, _ = _ids(_training_text(path, 4 * tokens), scheme, tokens)
        test, bytes_per_token = _ids(text, scheme, 64 * 1024)

        def report(step: int, loss: float, name: str = name) -> None:
            context.report(f"model on {name}", step, chosen.steps, bits_per_token=loss)

        start = time.process_time()
        model = train_transformer(train, 256, chosen, report)
        seconds = time.process_time() - start
        bits = bits_per_token(model, test, chosen)
        rows.append(
            {
                "scheme": name,
                "parameters": sum(item.numel() for item in model.parameters()),
                "training_cpu_seconds": seconds,
                "training_tokens": tokens,
                "bits_per_token": bits,
                "learned_bits_per_token": 8 - bits,
                "bytes_per_token": bytes_per_token,
                "bits_per_byte": bits / bytes_per_token,
                "uniform_bits_per_byte": 8 / bytes_per_token,
            }
        )
    return rows


def _ids(text: bytes, scheme: Mapping[str, Any] | None, count: int) -> tuple[NDArray[Any], float]:
    """The first ``count`` 8-bit ids of ``text`` and how many bytes each stands for, on average over the text read."""
    if scheme is None:
        ids = np.frombuffer(text[:count], np.uint8)
        return ids, 1.0
    tokenizer = WindowTokenizer(**{**scheme, "token_bits": 8})
    found: list[NDArray[Any]] = []
    read = made = 0
    piece = 64 << 10
    while made < count and read < len(text):
        found.append(tokenizer.encode(text[read : read + piece]))
        read += len(text[read : read + piece])
        made += len(found[-1])
    return np.concatenate(found)[:count], read / made
