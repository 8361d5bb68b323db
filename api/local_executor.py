"""Jobs on processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from .executors import ATTEMPTS, Job, Outcome, call_guarded
from .formats.errors import ExternalFailure

__all__ = ["LocalExecutor"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(slots=True)
class _Worker:
    process: Any
    connection: Connection
    job: Job | None = None


class LocalExecutor:
    """A process for each worker, on one thread each, started by ``spawn`` so that none inherits another's state."""

    def __init__(self, *, workers: int | None = None) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))

    def run(self, work: Callable[[Any], Any], jobs: Sequence[Job]) -> Iterator[Outcome]:
        waiting = deque(jobs)
        attempts = {job.key: 0 for job in jobs}
        workers = [_start(work) for _ in range(min(self.workers, len(waiting)))]
        try:
            while waiting or any(worker.job is not None for worker in workers):
                for worker in workers:
                    if worker.job is None and waiting:
                        _give(worker, waiting.popleft(), attempts)
                busy = {worker.connection: worker for worker in workers if worker.job is not None}
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]
                    job, worker.job = worker.job, None
                    if job is None:
                        continue
                    try:
                        value, error = worker.connection.recv()
                    except (EOFError, ConnectionResetError):
                        worker.process.join()
                        code = worker.process.exitcode
                        workers[workers.index(worker)] = _start(work)
                        if attempts[job.key] < ATTEMPTS:
                            waiting.appendleft(job)
                            continue
                        value, error = None, ExternalFailure(f"its worker ended with code {code}, {ATTEMPTS} times")
                    yield Outcome(key=job.key, value=value, error=error)
        finally:
            for worker in workers:
                worker.connection.close()
                worker.process.terminate()
            for worker in workers:
                worker.process.join()


def _give(worker: _Worker, job: Job, attempts: dict[str, int]) -> None:
    worker.job = job
    attempts[job.key] += 1
    try:
        worker.connection.send(job.payload)
    except (BrokenPipeError, ConnectionResetError):
        return  # it died while idle: receiving from it will tell, and the job goes to another


def _start(work: Callable[[Any], Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work))
    with _one_thread_each():
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Numerical libraries read these once, when they are loaded in the new process."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """A worker's life: payloads in, values or errors out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what stops
    while True:
        try:
            connection.send(call_guarded(work, connection.recv()))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the parent has closed its end, or was killed
