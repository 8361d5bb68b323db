"""Inputs of the text tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def text_corpus() -> Path:
    """The folder with the test corpora, or a skip."""
    root = Path(os.environ.get("CODECKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
    folder = root / "text" / "test"
    if not folder.is_dir():
        pytest.skip(f"no text corpora at {folder}; set CODECKIT_DATA")
    return folder
