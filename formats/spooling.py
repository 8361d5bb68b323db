"""Inputs that cannot seek or have no size in advance, such as pipes, copied to where they can be read at random."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import os

    from .limits import Limits

__all__ = ["is_stream_path", "spooled"]

_COPY_PIECE = 1 << 20


def is_stream_path(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` names a pipe, a device or a socket: what is read from it once is gone."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def spooled(stream: BinaryIO, *, limits: Limits, name: str) -> BinaryIO:
    """A temporary file with the rest of ``stream``, at its start; it vanishes when closed.

    Raises :class:`LimitExceeded` when there are more than ``limits.max_output_bytes``.
    """
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    size = 0
    try:
        while piece := stream.read(_COPY_PIECE):
            size += len(piece)
            limits.check("max_output_bytes", size, name)
            copy.write(piece)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy
