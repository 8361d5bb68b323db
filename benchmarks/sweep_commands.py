"""``codec bench rd`` and ``codec bench mpq``: run a sweep, audit it, and show its curves."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import codeckit

from ..executors import EXECUTORS, make_executor
from ..formats.errors import CorruptFile, InvalidParameter
from .audit import audit
from .cells import Plan, make_plan
from .curves import make_boards
from .rates import RATE_UNITS
from .results import Results, export_rows, load_results
from .store import Store
from .sweep import Sweep, list_presets, load_sweep, preset_path
from .sweep_run import RunSummary, require_everything, run_plan

__all__ = ["MPQ", "RD", "SweepCommand", "point_rows"]


@dataclasses.dataclass(frozen=True, slots=True)
class SweepCommand:
    """The two commands differ in whether machines judge too."""

    name: str
    summary: str
    with_tasks: bool

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("sweep", nargs="?", metavar="SWEEP.toml")
        parser.add_argument("--preset", metavar="NAME", help=f"a sweep of the package: {', '.join(list_presets())}")
        parser.add_argument("-o", "--output", metavar="FILE", help="results; resumed if there (default NAME.sqlite)")
        parser.add_argument("--no-resume", action="store_true", help="compute everything again")
        parser.add_argument("--limit", type=int, metavar="N", help="so many items of each data set")
        parser.add_argument("--require", action="store_true", help="fail when anything would be skipped")
        parser.add_argument("--export", action="append", default=[], metavar="FILE", help=".csv, .parquet or .jsonl")
        parser.add_argument("--executor", choices=EXECUTORS, default="local")
        parser.add_argument("--workers", type=int, metavar="N", help="default: all cores, or what the cluster takes")
        parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster; auto finds a local one")
        parser.add_argument("--gpus-per-task", type=float, default=0.0, metavar="SHARE", help="with ray")

    def run(self, options: argparse.Namespace, context: codeckit.RunContext) -> list[dict[str, Any]]:
        path, name = _sweep_file(options)
        sweep = _limited(load_sweep(path), options.limit)
        if not self.with_tasks:
            sweep = dataclasses.replace(sweep, tasks=())
        elif not sweep.tasks:
            raise InvalidParameter(f"{path} names no tasks; `codec bench rd` runs sweeps of metrics alone")
        plan = make_plan(sweep)
        for skip in plan.skips:
            context.warning(f"skipped: {skip.what} {skip.name}: {skip.reason}")
        if options.require:
            require_everything(plan)
        if not plan.cells:
            raise InvalidParameter("nothing is left to run")
        executor = make_executor(
            options.executor, workers=options.workers, address=options.address, gpus_per_task=options.gpus_per_task
        )
        target = Path(options.output or f"{name}.sqlite")
        if options.no_resume:
            _forget(target)
        with Store(target, create=True) as store:
            definition = path.read_text(encoding="utf-8")
            summary = run_plan(
                store, f"{self.name} {name}", definition, plan, executor, context, timing_repeats=sweep.timing_repeats
            )
            results = load_results(store)
            checked = audit(store, results)
        _tell(context, summary, checked.rates, checked.decoded)
        for export in options.export:
            export_rows(results, Path(export))
        if checked.problems:
            raise CorruptFile("the audit found: " + "; ".join(checked.problems[:10]))
        return [*point_rows(results), *_skip_rows(plan)]


def point_rows(results: Results) -> list[dict[str, Any]]:
    """One row for each point, as it is shown and printed as JSON."""
    return [
        {
            "data": board.data_set,
            "items": len(board.items),
            "codec": point.curve,
            "settings": point.settings,
            RATE_UNITS[board.kind].replace(" ", "_"): round(point.rate, 5),
            **_score_columns(board.scorers, point.scores),
            "encode_seconds": round(point.encode_seconds, 4),
            "decode_seconds": round(point.decode_seconds, 4),
        }
        for board in make_boards(results)
        for point in board.points
    ]


def _score_columns(scorers: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, float | None]:
    columns: dict[str, float | None] = {}
    for name, scorer in scorers.items():
        found = scores.get(name)
        columns[name] = None if found is None else round(found.value, 4)
        if scorer.is_task and found is not None:
            columns[f"{name}_low"], columns[f"{name}_high"] = round(found.low, 4), round(found.high, 4)
    return columns


def _skip_rows(plan: Plan) -> list[dict[str, Any]]:
    return [{"data": "", "codec": skip.name, "settings": f"skipped: {skip.reason}"} for skip in plan.skips]


def _sweep_file(options: argparse.Namespace) -> tuple[Path, str]:
    if (options.sweep is None) == (options.preset is None):
        raise InvalidParameter(f"give a SWEEP.toml or --preset NAME ({', '.join(list_presets())})")
    path = Path(options.sweep) if options.sweep is not None else preset_path(options.preset)
    return path, path.stem


def _limited(sweep: Sweep, limit: int | None) -> Sweep:
    if limit is None:
        return sweep
    data = [dataclasses.replace(entry, limit=min(limit, entry.limit or limit)) for entry in sweep.data]
    return dataclasses.replace(sweep, data=data)


def _forget(target: Path) -> None:
    """Remove earlier results; their files stay until they are written again."""
    for suffix in ("", "-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)


def _tell(context: codeckit.RunContext, summary: RunSummary, rates: int, decoded: int) -> None:
    share = f" ({summary.harness_seconds / summary.coding_seconds:.1%} of coding)" if summary.coding_seconds else ""
    context.warning(
        f"{summary.computed} of {summary.cells} cells computed, {summary.errors} errors; coding took "
        f"{summary.coding_seconds:.1f} s, scoring {summary.scoring_seconds:.1f} s, reading inputs "
        f"{summary.reading_seconds:.1f} s, the harness itself {summary.harness_seconds:.1f} s{share}; "
        f"the audit agreed on {rates} rates and {decoded} decoded files"
    )


RD = SweepCommand("rd", "rate against distortion: codecs, settings and data of a sweep file", with_tasks=False)
MPQ = SweepCommand("mpq", "rate against what machines recognise, and distortion", with_tasks=True)
