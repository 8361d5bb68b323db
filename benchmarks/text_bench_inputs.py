"""What ``codec bench text`` measures on: the usual corpora, one long text, and awkward inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["awkward_inputs", "corpus", "long_text"]

# Name in the tables and the files it joins.
_CORPUS = {
    "alice29": ("alice29.txt",),
    "book1": ("book1",),
    "enwik8, first 1 MB": ("enwik8-first-1MB",),
    "WikiText-2 test": ("wikitext2-test.txt",),
    "Polish, 1 MB": ("reymont-first-1MB",),
    "progc + progl + progp": ("progc", "progl", "progp"),
    "obj2": ("obj2",),
    "world192": ("world192.txt",),
}
_LONG_TEXT = ("book1", "world192.txt", "alice29.txt", "enwik8-first-1MB")
_LONG_TEXT_BYTES = 4_000_000


def corpus(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every corpus of which ``folder`` has all files, as name and bytes."""
    for name, files in _CORPUS.items():
        paths = [folder / file for file in files]
        if all(path.is_file() for path in paths):
            yield name, b"".join(path.read_bytes() for path in paths)


def long_text(folder: Path) -> bytes:
    """4 MB of text for the speeds."""
    return b"".join((folder / name).read_bytes() for name in _LONG_TEXT)[:_LONG_TEXT_BYTES]


def awkward_inputs() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of inputs that break compressors."""
    import numpy as np

    random = np.random.default_rng(11)
    yield "0 bytes", b""
    yield "1 byte", b"\xff"
    yield "100 MB of one byte", b"a" * 100_000_000
    yield "1 MB of random bytes", random.bytes(1_000_000)
    yield "invalid UTF-8", bytes(range(128, 256)) * 2000
    yield "NUL bytes", bytes(300_000)
    yield "random bytes repeated far apart", random.bytes(3_000_000) * 2
    yield "32-bit counters", np.arange(100_000, dtype="<u4").tobytes()
