"""Building the wheel once, for the checks of what users get."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the wheel from the tree into ``folder`` and return its path."""
    # setuptools would put modules of an earlier build that no longer exist into the wheel
    shutil.rmtree(REPOSITORY / "build", ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(REPOSITORY)], check=True)
    (wheel,) = folder.glob("codeckit-*.whl")
    return wheel


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Lay the wheel out as an installer would."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
