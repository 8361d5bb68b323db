"""Keeps matrix products on the thread that asks for them: blocks of tokens already keep every core busy."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_blas_thread"]

_lock = threading.Lock()
_users: list[Any] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit the process's linear algebra to one thread a call; nests, also across threads."""
    with _lock:
        _users.append(_controller().limit(limits=1, user_api="blas") if not _users else None)
    try:
        yield
    finally:
        with _lock:
            # the first limit lies at the bottom, so whoever leaves last restores what was there before
            limit = _users.pop()
            if limit is not None:
                limit.restore_original_limits()


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
