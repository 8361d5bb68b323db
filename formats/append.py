"""Appending chunks to a finished file, atomically: the old file stays until the new one is complete."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .atomic_file import AtomicFile
from .limits import DEFAULT_LIMITS, Limits
from .reader import ContainerReader
from .writer import ContainerWriter

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["appending"]


@contextmanager
def appending(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> Iterator[ContainerWriter]:
    """Verify the file at ``path``, then give a writer whose chunks follow those it has.

    The file is replaced when the block ends without an error; until then, and after an error, it stays as it was.
    """
    with ContainerReader(path, limits=limits) as reader, AtomicFile(path, overwrite=True) as output:
        reader.verify()
        writer = ContainerWriter(output, limits=limits)
        writer.continue_after(reader.header, reader.index(), reader.content_pieces())
        yield writer
        writer.finish()
        output.commit()
