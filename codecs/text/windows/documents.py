"""Training text: which files, where its books begin, and the books that are never trained on."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....formats.errors import InvalidParameter

__all__ = ["Document", "development_titles", "held_out_titles", "read_documents", "training_documents"]

_TITLE = re.compile(rb"(?m)^# Title: (.*)$")


@dataclass(frozen=True, slots=True)
class Document:
    """A book, or a whole file where no line ``# Title: ...`` begins one; ``title`` is then the file's name."""

    title: str
    text: bytes


def held_out_titles() -> frozenset[str]:
    """The eight books of the training corpus whose titles have the smallest SHA-256, kept for measuring."""
    return _titles("held_out_books.txt")


def development_titles() -> frozenset[str]:
    """Six books on which the settings of the dictionary were chosen; it is not trained on them either."""
    return _titles("development_books.txt")


def _titles(name: str) -> frozenset[str]:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return frozenset(line.strip() for line in text.splitlines() if line.strip())


def read_documents(paths: Iterable[Path]) -> list[Document]:
    """The documents of text files, plain or ``.xz``.

    Raises :class:`InvalidParameter` for files that cannot be read.
    """
    documents = []
    for path in paths:
        try:
            content = path.read_bytes()
            text = lzma.decompress(content) if path.suffix == ".xz" else content
        except (OSError, lzma.LZMAError) as error:
            raise InvalidParameter(f"cannot read the training text {path}: {error}") from error
        found = [(match.start(), match.group(1)) for match in _TITLE.finditer(text)]
        if not found or found[0][0] > 0:
            found.insert(0, (0, path.name.encode()))
        ends = [start for start, _ in found[1:]] + [len(text)]
        documents += [
            Document(title.decode("utf-8", "replace").strip(), text[start:end])
            for (start, title), end in zip(found, ends, strict=True)
        ]
    return documents


def training_documents(paths: Sequence[Path], left_out: frozenset[str] = frozenset()) -> list[NDArray[np.uint8]]:
    """The documents of ``paths`` as arrays of bytes, without the held-out books and those of titles ``left_out``.

    Raises :class:`InvalidParameter` when nothing is left.
    """
    held_out = held_out_titles() | left_out
    documents = [document for document in read_documents(paths) if document.title not in held_out]
    if not sum(len(document.text) for document in documents):
        raise InvalidParameter("the data hold no text to train on")
    return [np.frombuffer(document.text, np.uint8) for document in documents if document.text]
