"""How many threads a run uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..run_context import RunContext

__all__ = ["worker_count"]


def worker_count(context: RunContext) -> int:
    """Threads the caller allows, or the cores this process may run on."""
    return context.threads or len(os.sched_getaffinity(0))
