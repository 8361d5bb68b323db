"""Draws delay against bandwidth: ``python -m codeckit.benchmarks.kv_delay_plot docs/kv-delay.svg``."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from .tables import RESULTS

__all__ = ["main"]


def main(output: Path, rows: Path = RESULTS / "kv-delay.jsonl") -> None:
    """Draw the rows of ``codec bench kv-delay``, one line for each method; later rows replace earlier ones."""
    from matplotlib.figure import Figure

    delays: dict[str, dict[float, float]] = defaultdict(dict)
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        delays[row["method"]][row["megabits_per_second"]] = row["delay_seconds"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for method, points in delays.items():
        axes.loglog(sorted(points), [points[rate] for rate in sorted(points)], marker="o", label=method)
    axes.set_xlabel("bandwidth, Mb/s")
    axes.set_ylabel("delay until the context is ready, s")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(output)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
