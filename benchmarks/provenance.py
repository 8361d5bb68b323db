"""Where a benchmark row comes from: commit, machine, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

__all__ = ["provenance"]

_PACKAGES = ("torch", "numpy", "constriction", "av")


def provenance() -> dict[str, str | int | float]:
    """What every row carries beside its own figures: commit (``+`` when files differ from it), processor, versions.

    ``load`` is the one-minute load average before the run: timings of a busy machine are to be read with care.
    """
    return {
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def _commit() -> str:
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return f"codeckit {version('codeckit')}"  # an installed wheel has no repository
    return commit + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
