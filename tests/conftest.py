"""What every test may use: the data folder, and a small third-party codec installed beside the package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command does: tests share the machine

REPOSITORY = Path(__file__).resolve().parents[1]
THIRD_PARTY = REPOSITORY / "tests" / "packaging" / "third_party"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real test data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CODECKIT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"test data is not at {folder}; set CODECKIT_DATA")
    return folder


@pytest.fixture(scope="session")
def plugin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch site folder into which the third-party codec ``reverse`` has been installed by pip."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "reverse_codec.py"):
        (source / name).write_bytes((THIRD_PARTY / name).read_bytes())
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "--target", str(folder), str(source)], check=True)
    return folder


@pytest.fixture
def reverse_codec(plugin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the third-party codec available in this process; gives its id."""
    monkeypatch.syspath_prepend(str(plugin_folder))
    return "reverse"


RunCodec = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def run_codec(plugin_folder: Path) -> RunCodec:
    """Run the command ``codec`` as a user would, with the third-party codec installed."""
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder)}
    program = str(Path(sys.executable).with_name("codec"))

    def run(
        *arguments: object, stdin: bytes = b"", timeout: float = 300, **more: object
    ) -> subprocess.CompletedProcess[bytes]:
        words = [program, *(str(argument) for argument in arguments)]
        return subprocess.run(words, input=stdin, capture_output=True, env=environment, timeout=timeout, **more)  # type: ignore[call-overload, no-any-return]

    return run
