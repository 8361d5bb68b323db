"""Text read in pictures by Tesseract, a program of its own (Debian: tesseract-ocr)."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import Any

from ..formats.errors import ExternalFailure
from .items import Item
from .scorers import Score
from .speech_recognition import agreement

__all__ = ["TesseractConsistency"]

_REVISION = 1
_LONGEST_SECONDS = 120


class TesseractConsistency:
    """Agreement of the letters read with those read in the original: 1 less the letter error rate, at least 0."""

    name = "tesseract"
    title = "agreement of Tesseract with itself on the originals"
    unit = "letters"
    kinds = frozenset({"image"})
    higher_is_better = True
    is_task = True

    def __init__(self) -> None:
        self._original: tuple[str, str] | None = None

    def version(self) -> str:
        done = _tesseract(["--version"], b"")
        return f"{_REVISION} {done.splitlines()[0]}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        key = str(item.path)
        if self._original is None or self._original[0] != key:
            self._original = (key, _read(original))
        return Score(value=agreement(self._original[1], _read(decoded)))


def _read(picture: Any) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return " ".join(_tesseract(["-", "-"], stream.getvalue()).split())


def _tesseract(arguments: list[str], data: bytes) -> str:
    program = shutil.which("tesseract")
    if program is None:
        raise ExternalFailure("tesseract is not installed (Debian: tesseract-ocr)")
    try:
        done = subprocess.run([program, *arguments], input=data, capture_output=True, timeout=_LONGEST_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ExternalFailure(f"tesseract took longer than {_LONGEST_SECONDS} s") from error
    if done.returncode != 0:
        raise ExternalFailure(f"tesseract failed: {done.stderr.decode(errors='replace')[-300:]}")
    return done.stdout.decode(errors="replace")
