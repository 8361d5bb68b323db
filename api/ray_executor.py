"""Jobs on a Ray cluster (the extra ``ray``): paths in payloads must be on storage that all its machines share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .executors import ATTEMPTS, Job, Outcome, call_guarded
from .formats.errors import CodecError, ExternalFailure

__all__ = ["RayExecutor"]


class RayExecutor:
    """A task for each job, on one processor and ``gpus_per_task`` GPUs each; Ray retries tasks whose worker died."""

    def __init__(self, *, workers: int | None = None, address: str | None = None, gpus_per_task: float = 0.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise ExternalFailure("Ray is not installed; pip install 'codeckit[ray]' brings it") from error
        if not ray.is_initialized():
            start: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
            try:
                ray.init(log_to_driver=False, logging_level="error", **start)
            except Exception as error:  # Ray raises the bare class when a node does not come up
                raise ExternalFailure(f"no Ray cluster answers at {address}: {error}") from error
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._gpus_per_task = gpus_per_task

    def run(self, work: Callable[[Any], Any], jobs: Sequence[Job]) -> Iterator[Outcome]:
        import ray

        task = ray.remote(num_cpus=1, num_gpus=self._gpus_per_task, max_retries=ATTEMPTS - 1)(call_guarded)
        running: dict[Any, Job] = {}
        remaining = iter(jobs)
        try:
            while True:
                while len(running) < 2 * self.workers and (job := next(remaining, None)) is not None:
                    running[task.remote(work, job.payload)] = job
                if not running:
                    return
                for finished in ray.wait(list(running))[0]:
                    job = running.pop(finished)
                    value, error = _result(finished)
                    yield Outcome(key=job.key, value=value, error=error)
        finally:
            for pending in running:
                ray.cancel(pending, force=True)


def _result(finished: Any) -> tuple[Any, CodecError | None]:
    import ray

    try:
        value, error = ray.get(finished)
    except ray.exceptions.RayError as failure:
        return None, ExternalFailure(f"its worker died {ATTEMPTS} times: {failure}")
    return value, error
