"""Running a sweep: an executor's workers compute what the store lacks, this process alone writes it."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import codeckit

from ..executors import Executor, Job
from ..formats.errors import ExternalFailure
from .cells import Cell, Plan
from .provenance import provenance
from .store import Store
from .worker import CellResult, CellTask, ItemJob, ItemResult, code_item

__all__ = ["RunSummary", "require_everything", "run_plan"]

# small jobs lose little when a machine goes away, large ones read their item less often
CELLS_PER_JOB = {"image": 12, "audio": 16, "bytes": 2, "video": 1, "tensors": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did. ``coding_seconds`` were spent in codecs, first uses and repeats included, ``reading_seconds``
    in decoding the inputs; ``harness_seconds`` are all others: passing work and results on, writing the store."""

    cells: int
    done_before: int
    computed: int
    errors: int
    coding_seconds: float
    scoring_seconds: float
    reading_seconds: float
    harness_seconds: float
    wall_seconds: float


def require_everything(plan: Plan) -> None:
    """Raise :class:`ExternalFailure` when anything of the plan would be skipped."""
    if plan.skips:
        missing = "; ".join(f"{skip.what} {skip.name}: {skip.reason}" for skip in plan.skips)
        raise ExternalFailure(f"required, but not to be had here: {missing}")


def run_plan(
    store: Store,
    sweep: str,
    definition: str,
    plan: Plan,
    executor: Executor,
    context: codeckit.RunContext,
    *,
    timing_repeats: int = 1,
) -> RunSummary:
    """Compute every cell of ``plan`` that ``store`` lacks, and every score.

    Interrupted at any point, it leaves a store from which the same call goes on. Raises :class:`Cancelled` and
    :class:`OutputFailure`.
    """
    wall, processor = time.perf_counter(), time.process_time()
    with store.writing():
        run = store.begin(sweep, definition, plan, provenance())
        work = _missing(store, plan)
        by_key = {cell.key: cell for cell in plan.cells}
        total, done = len(plan.cells), len(plan.cells) - len(work)
        jobs = _jobs(work, by_key, timing_repeats)
        errors, coding, scoring, reading, busy = 0, 0.0, 0.0, 0.0, 0.0
        context.report("cells", done, total, unit="cells")
        with closing(_outcomes(executor, jobs)) as outcomes:
            for item in outcomes:
                store.save(run, [(by_key[result.key], result) for result in item.cells], plan.versions)
                busy += item.seconds
                reading += item.reading_seconds
                done += len(item.cells)
                errors += sum(result.error is not None for result in item.cells)
                coding += sum(result.coding_seconds for result in item.cells)
                scoring += sum(score.seconds for result in item.cells for score in result.scores)
                context.report("cells", done, total, unit="cells", errors=errors)
        summary = RunSummary(
            cells=total,
            done_before=total - len(work),
            computed=len(work),
            errors=errors,
            coding_seconds=coding,
            scoring_seconds=scoring,
            reading_seconds=reading,
            harness_seconds=max(0.0, busy - coding - scoring - reading) + time.process_time() - processor,
            wall_seconds=time.perf_counter() - wall,
        )
        store.finish(run, {name: getattr(summary, name) for name in RunSummary.__dataclass_fields__})
    return summary


def _missing(store: Store, plan: Plan) -> list[CellTask]:
    coded, scored = store.coded_files(), store.scored()
    tasks: dict[str, CellTask] = {}
    for cell in plan.cells:
        applicable = [name for name, scorer in plan.scorers.items() if cell.item.kind in scorer.kinds]
        if cell.point.codec == "original":
            applicable = [name for name in applicable if plan.scorers[name].is_task]
        lacking = [name for name in applicable if (cell.key, name, plan.versions[name]) not in scored]
        stored = coded.get(cell.key)
        if stored is not None and not lacking:
            continue
        tasks[cell.key] = CellTask(
            key=cell.key,
            codec=cell.point.codec,
            preset=cell.point.preset,
            settings=cell.point.settings,
            stored=stored,
            scorers=lacking if stored is not None else applicable,
        )
    return list(tasks.values())


def _jobs(work: Sequence[CellTask], by_key: Mapping[str, Cell], timing_repeats: int) -> list[Job]:
    jobs: list[Job] = []
    group: list[CellTask] = []
    for position, task in enumerate(work):
        group.append(task)
        item = by_key[task.key].item
        last_of_item = position + 1 == len(work) or by_key[work[position + 1].key].item is not item
        if last_of_item or len(group) == CELLS_PER_JOB[item.kind]:
            payload = ItemJob(item=item, tasks=tuple(group), timing_repeats=timing_repeats)
            jobs.append(Job(key=group[0].key, payload=payload))
            group = []
    return jobs


def _outcomes(executor: Executor, jobs: Sequence[Job]) -> Generator[ItemResult]:
    tasks = {job.key: job.payload.tasks for job in jobs}
    for outcome in executor.run(code_item, jobs):
        if outcome.error is not None:
            reason = str(outcome.error)
            lost = [CellResult(key=task.key, error=reason) for task in tasks[outcome.key]]
            yield ItemResult(cells=lost, seconds=0.0, reading_seconds=0.0)
        else:
            yield outcome.value
