"""The contract of executors, on local processes and, where Ray is installed, on a Ray node of this machine."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeckit.executors import Executor, Job, make_executor
from codeckit.formats.errors import ExternalFailure, InvalidParameter, UnsupportedInput

sys.path.insert(0, str(Path(__file__).parent))
import executor_work as work

has_ray = importlib.util.find_spec("ray") is not None


@pytest.fixture(
    scope="module",
    params=[
        "local",
        pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.skipif(not has_ray, reason="Ray is not installed")]),
    ],
)
def executor(request: pytest.FixtureRequest, module_path: None) -> Iterator[Executor]:
    yield make_executor(request.param, workers=2)
    if request.param == "ray":
        import ray

        ray.shutdown()


@pytest.fixture(scope="module")
def module_path() -> Iterator[None]:
    """Workers find the module of the work by PYTHONPATH."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield


def numbered(count: int) -> list[Job]:
    return [Job(key=f"job {number}", payload=number) for number in range(count)]


def test_every_job_has_one_outcome(executor: Executor):
    outcomes = {outcome.key: outcome.value for outcome in executor.run(work.square, numbered(9))}
    assert outcomes == {f"job {number}": number * number for number in range(9)}
    assert list(executor.run(work.square, [])) == []


def test_what_the_work_raises_is_an_outcome(executor: Executor):
    outcomes = {outcome.key: outcome for outcome in executor.run(work.fail_on_odd, numbered(5))}
    assert isinstance(outcomes["job 1"].error, UnsupportedInput)
    assert isinstance(outcomes["job 3"].error, ExternalFailure)
    assert "three divides by zero" in str(outcomes["job 3"].error)
    assert [outcomes[f"job {number}"].value for number in (0, 2, 4)] == [0, 2, 4]


def test_a_job_whose_worker_is_killed_is_done_by_another(executor: Executor, tmp_path: Path):
    jobs = [Job(key=str(number), payload=(str(tmp_path), number)) for number in range(5)]
    outcomes = {outcome.key: outcome.value for outcome in executor.run(work.die_once, jobs)}
    assert (tmp_path / "died").exists()
    assert outcomes == {str(number): number for number in range(5)}


def test_a_job_that_kills_every_worker_fails_and_the_others_do_not(executor: Executor):
    outcomes = {outcome.key: outcome for outcome in executor.run(work.die_always, numbered(4))}
    assert isinstance(outcomes["job 1"].error, ExternalFailure)
    assert [outcomes[f"job {number}"].value for number in (0, 2, 3)] == [0, 2, 3]


def test_closing_the_outcomes_stops_the_workers(executor: Executor, tmp_path: Path):
    jobs = [Job(key=str(number), payload=(str(tmp_path), number)) for number in range(4)]
    outcomes = executor.run(work.sleep_and_mark, jobs)
    next(outcomes)
    start = time.monotonic()
    outcomes.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 20
    assert not (tmp_path / "started-3").exists()


def test_unknown_executors_and_senseless_options_are_refused():
    with pytest.raises(InvalidParameter, match="there are local, ray"):
        make_executor("slurm")
    with pytest.raises(InvalidParameter, match="at least 1"):
        make_executor("local", workers=0)
    with pytest.raises(InvalidParameter, match="belong to the executor ray"):
        make_executor("local", address="auto")


@pytest.mark.skipif(has_ray, reason="Ray is installed")
def test_without_ray_the_message_says_what_to_install():
    with pytest.raises(ExternalFailure, match=r"codeckit\[ray\]"):
        make_executor("ray")
