"""``codec bench executors``: the same sweep on local processes and on a Ray cluster of this machine, in one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import codeckit

from ..executors import Executor, make_executor
from ..formats.errors import ExternalFailure, InvalidParameter
from .cells import Plan, make_plan
from .provenance import provenance
from .results import load_results
from .store import Store
from .sweep import parse_sweep
from .sweep_run import RunSummary, run_plan

__all__ = ["bench"]

_SWEEP = """
metrics = ["psnr_db"]
[[data]]
name = "imagenet-eval"
limit = {images}
[[codecs]]
name = "jpeg"
settings = {{ quality = [10, 50] }}
[[codecs]]
name = "webp"
settings = {{ quality = [10, 50] }}
"""


def bench(settings: Mapping[str, str], context: codeckit.RunContext) -> list[dict[str, Any]]:
    """Seconds of one sweep on local processes, and on the nodes of a Ray cluster.

    The sweep is JPEG and WebP over ``images`` pictures, on ``nodes`` local workers, then on as many Ray nodes of one
    processor each. Starting the cluster is not counted, starting its workers is.
    """
    unknown = settings.keys() - {"images", "nodes"}
    if unknown:
        raise InvalidParameter(f"there are images and nodes, not {', '.join(sorted(unknown))}")
    images, nodes = int(settings.get("images", "200")), int(settings.get("nodes", "2"))
    plan = make_plan(parse_sweep(_SWEEP.format(images=images)))
    if not plan.cells:
        raise ExternalFailure("the pictures of imagenet-eval are not here; set CODECKIT_DATA")
    local, coded = _run(plan, lambda: make_executor("local", workers=nodes), context)
    with _cluster(nodes) as address:
        ray, coded_by_ray = _run(plan, lambda: make_executor("ray", address=address), context)
    if coded != coded_by_ray:
        raise ExternalFailure("the two executors did not give the same results")
    common = {"benchmark": "executors", "images": images, "cells": len(plan.cells), "workers": nodes}
    return [
        {
            **common,
            "executor": name,
            "wall_seconds": round(found.wall_seconds, 2),
            "ratio": round(found.wall_seconds / local.wall_seconds, 3),
            "coding_seconds": round(found.coding_seconds, 2),
            "harness_seconds": round(found.harness_seconds, 2),
            **provenance(),
        }
        for name, found in (("local", local), ("ray", ray))
    ]


def _run(plan: Plan, executor: Callable[[], Executor], context: codeckit.RunContext) -> tuple[RunSummary, Any]:
    with (
        TemporaryDirectory(prefix="codec-executors-") as folder,
        Store(Path(folder) / "r.sqlite", create=True) as store,
    ):
        summary = run_plan(store, "executors", _SWEEP, plan, executor(), context)
        rows = load_results(store).rows
    return summary, [(row.cell, row.status, row.file_bytes, row.scores) for row in rows]


@contextmanager
def _cluster(nodes: int) -> Iterator[str]:
    try:
        import ray
        from ray.cluster_utils import Cluster
    except ImportError as error:
        raise ExternalFailure("Ray is not installed; pip install 'codeckit[ray]' brings it") from error
    # Ray's workers otherwise stand behind all other processes of a busy machine
    os.environ.setdefault("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()
