"""Running out of memory, as an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .formats.errors import LimitExceeded

__all__ = ["memory_errors"]

# torch raises plain RuntimeErrors for a processor's memory; these words are in all of them
_TORCH_WORDS = ("DefaultCPUAllocator", "out of memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn exhausted memory, of Python, NumPy or torch, into :class:`LimitExceeded`."""
    try:
        yield
    except MemoryError as error:
        raise LimitExceeded(_message(error)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _TORCH_WORDS):
            raise
        raise LimitExceeded(_message(error)) from error


def _message(error: Exception) -> str:
    what = str(error).partition("\n")[0] or "an allocation failed"
    return f"memory ran out ({what}); take a part at a time, a smaller input, or a machine with more"
