"""Runs the strict type checker on the package as users install it, from a folder that is not the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from wheel_building import REPOSITORY, build_wheel, unpack_wheel


def main() -> int:
    """Return the type checker's exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack_wheel(build_wheel(folder / "wheel"), folder / "site")
        environment = {**os.environ, "MYPYPATH": str(folder / "site")}
        cache = REPOSITORY / ".mypy_cache"
        command = [sys.executable, "-m", "mypy", "-p", "codeckit", "--cache-dir", str(cache)]
        configuration = ["--config-file", str(REPOSITORY / "pyproject.toml")]
        return subprocess.run([*command, *configuration], cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
