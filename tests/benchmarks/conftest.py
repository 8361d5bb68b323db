"""A small sweep over generated pictures, run in this process, and ways to damage what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import codeckit
from codeckit.benchmarks.cells import make_plan
from codeckit.benchmarks.results import Results, load_results
from codeckit.benchmarks.store import Store
from codeckit.benchmarks.sweep import parse_sweep
from codeckit.benchmarks.sweep_run import RunSummary, run_plan
from codeckit.executors import Job, Outcome, call_guarded

SWEEP = """
metrics = ["psnr_db"]
[[data]]
name = "waves"
path = "pictures"
kind = "image"
[[codecs]]
name = "jpeg"
settings = { quality = [10, 30, 60, 90] }
[[codecs]]
name = "webp"
settings = { quality = [10, 30, 60, 90], method = 0 }
"""


@dataclass
class InlineExecutor:
    """Runs jobs in this process, one after another; ``stop_after`` interrupts it as a kill would."""

    workers: int = 1
    stop_after: int | None = None
    seen: list[str] = field(default_factory=list)

    def run(self, work: Callable[[Any], Any], jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            if self.stop_after is not None and len(self.seen) == self.stop_after:
                raise KeyboardInterrupt
            self.seen.append(job.key)
            value, error = call_guarded(work, job.payload)
            yield Outcome(key=job.key, value=value, error=error)


def write_pictures(folder: Path, count: int = 3, side: int = 64) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:side, :side]
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 12, (side, side, 3))
        wave = 127 + 90 * np.sin(x / (3 + number) + 0.3 * y)[..., None]
        Image.fromarray(np.clip(wave + noise, 0, 255).astype(np.uint8)).save(folder / f"wave-{number}.png")


@dataclass
class SweepHelper:
    """Runs a sweep text in ``folder``; every call resumes the same store."""

    folder: Path
    text: str = SWEEP

    @property
    def path(self) -> Path:
        return self.folder / "results.sqlite"

    def run(self, executor: Any = None, text: str | None = None) -> RunSummary:
        sweep = parse_sweep(text or self.text, base=self.folder)
        plan = make_plan(sweep)
        with Store(self.path, create=True) as store:
            return run_plan(
                store, "waves", self.text, plan, executor or InlineExecutor(), codeckit.RunContext(), timing_repeats=1
            )

    def results(self) -> Results:
        with Store(self.path) as store:
            return load_results(store)


@pytest.fixture
def waves(tmp_path: Path) -> SweepHelper:
    write_pictures(tmp_path / "pictures")
    return SweepHelper(tmp_path)
