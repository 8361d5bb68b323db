"""The contract of executors, on local processes and, where Ray is installed, on a Ray cluster of two nodes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codeckit.executors import Executor, Job, make_executor
from codeckit.formats.errors import ExternalFailure, InvalidParameter, UnsupportedInput

sys.path.insert(0, str(Path(__file__).parent))
import executor_work as work

has_ray = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="module")
def module_path() -> Iterator[None]:
    """Workers find the module of the work by PYTHONPATH, and Ray's run at the usual priority."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("RAY_worker_niceness", "0")  # else they wait behind everything else on a busy machine
        yield


@pytest.fixture(scope="module")
def cluster(module_path: None) -> Iterator[Any]:
    """A Ray cluster of two nodes with one processor each, all on this machine."""
    if not has_ray:
        pytest.skip("Ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    started.add_node(num_cpus=1)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest, module_path: None) -> Executor:
    if request.param == "local":
        return make_executor("local", workers=2)
    return make_executor("ray", address=request.getfixturevalue("cluster").address)


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


@pytest.mark.slow
def test_both_nodes_of_a_cluster_work_and_one_that_goes_away_loses_nothing(cluster: Any, tmp_path: Path):
    node = cluster.add_node(num_cpus=1)
    executor = make_executor("ray", address=cluster.address)
    assert executor.workers == 3
    jobs = [Job(key=str(number), payload=(str(tmp_path), number)) for number in range(12)]
    outcomes = executor.run(work.slow_node_name, jobs)
    first = next(outcomes)
    # long enough for every node to have started a job
    while len(list(tmp_path.iterdir())) < 3:
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)
    found = {outcome.key: outcome for outcome in [first, *outcomes]}
    assert sorted(found, key=int) == [job.key for job in jobs]
    assert [str(outcome.error) for outcome in found.values() if outcome.error] == []
    assert len({outcome.value for outcome in found.values()}) >= 2


@pytest.mark.slow
def test_codec_encode_gives_the_same_files_on_a_cluster_as_on_local_processes(cluster: Any, tmp_path: Path):
    inputs = [str(tmp_path / f"{number}.npy") for number in range(4)]
    for number, path in enumerate(inputs):
        cache = np.random.default_rng(number).normal(size=(2, 2, 64, 2, 8)).astype(np.float16)
        np.save(path, cache)
    for name, options in {"local": ["local"], "ray": ["ray", "--address", cluster.address]}.items():
        command = [sys.executable, "-c", "import sys; from codeckit.cli.main import main; sys.exit(main())", "encode"]
        command += [*inputs, "--output-dir", str(tmp_path / name), "--codec", "kv-lossless", "--executor", *options]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for number in range(4):
        written = [(tmp_path / name / f"{number}.npy.ck").read_bytes() for name in ("local", "ray")]
        assert written[0] == written[1]


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
