"""Independent pieces of work on many processes or machines: the same jobs and outcomes, whoever runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .formats.errors import CodecError, ExternalFailure, InvalidParameter

__all__ = ["EXECUTORS", "Executor", "Job", "Outcome", "call_guarded", "make_executor"]

EXECUTORS = ("local", "ray")
ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work. ``key`` names its result: doing a job twice must be harmless. ``payload`` is picklable."""

    key: str
    payload: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a job ended: with a ``value``, or with an ``error`` when the work raised or its worker died each time."""

    key: str
    value: Any = None
    error: CodecError | None = None


class Executor(Protocol):
    """Runs jobs on ``workers`` workers. A job whose worker dies is given to another one, at most three times in all."""

    workers: int

    def run(self, work: Callable[[Any], Any], jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Yield an outcome for every job, as they finish; ``work`` is a function of a module, called with the payload.

        Closing the iterator stops all workers at once.
        """
        ...


def make_executor(
    name: str, *, workers: int | None = None, address: str | None = None, gpus_per_task: float = 0.0
) -> Executor:
    """The executor called ``local`` or ``ray``.

    ``workers`` None means every core (local) or as many tasks as the cluster takes (ray). ``address`` of a Ray cluster
    is what ``ray start`` printed, or ``auto``; without it Ray starts on this machine alone. ``gpus_per_task`` may be a
    fraction.

    Raises :class:`InvalidParameter`, and :class:`ExternalFailure` when Ray is not installed or does not answer.
    """
    if workers is not None and workers < 1:
        raise InvalidParameter(f"workers must be at least 1, got {workers}")
    if name == "local":
        if address is not None or gpus_per_task:
            raise InvalidParameter("an address and a share of GPUs belong to the executor ray")
        from .local_executor import LocalExecutor

        return LocalExecutor(workers=workers)
    if name == "ray":
        from .ray_executor import RayExecutor

        return RayExecutor(workers=workers, address=address, gpus_per_task=gpus_per_task)
    raise InvalidParameter(f"no executor is called {name!r}; there are {', '.join(EXECUTORS)}")


def call_guarded(work: Callable[[Any], Any], payload: Any) -> tuple[Any, CodecError | None]:
    """Call ``work`` in a worker; what it raises comes back as a :class:`CodecError`."""
    try:
        return work(payload), None
    except CodecError as error:
        return None, error
    except Exception as error:  # a job may fail in any way, and must not take its worker down
        return None, ExternalFailure(f"{type(error).__name__}: {error}")
