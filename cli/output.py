"""What the command shows: tables, JSON objects, sizes and progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from ..codecs.run_context import Progress

__all__ = [
    "JSON_VERSION",
    "ProgressBar",
    "format_size",
    "note",
    "print_json",
    "print_table",
    "show",
]

JSON_VERSION = 1


def print_json(value: Mapping[str, Any], *, stream: TextIO | None = None) -> None:
    """One object on one line, on standard output unless told otherwise."""
    text = json.dumps({"version": JSON_VERSION, **value}, ensure_ascii=False, allow_nan=False)
    print(text, file=stream or sys.stdout, flush=True)


def print_table(rows: Iterable[Sequence[Any]], headings: Sequence[str] | None = None) -> None:
    """Aligned columns on standard output; numbers to the right."""
    body = [[show(cell) for cell in row] for row in rows]
    lines = [list(headings), *body] if headings else body
    if not lines:
        return
    columns = range(len(lines[0]))
    widths = [max(len(line[column]) for line in lines) for column in columns]
    numeric = [bool(body) and all(_is_number(row[column]) for row in body) for column in columns]
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(cells).rstrip())
        if headings and number == 0:
            print("  ".join("-" * width for width in widths))


def show(value: object) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 100 else f"{value:,.1f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return " ".join(show(item) for item in value)
    return str(value)


def format_size(size_bytes: int) -> str:
    """Bytes with a unit of 1,000."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def note(message: str) -> None:
    """Something worth knowing, on standard error."""
    print(f"codec: note: {message}", file=sys.stderr, flush=True)


class ProgressBar:
    """Rate and time left on a terminal, silent elsewhere."""

    def __init__(self, *, quiet: bool, label: str = "") -> None:
        self._active = sys.stderr.isatty() and not quiet
        self._label = label
        self._stage: str | None = None
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        if not self._active:
            return
        if progress.stage != self._stage:
            self._close()
            from tqdm import tqdm  # only where a person watches

            self._stage = progress.stage
            self._bar = tqdm(
                total=progress.total,
                unit=f" {progress.unit}",
                desc=f"{self._label}{progress.stage}",
                dynamic_ncols=True,
                file=sys.stderr,
            )
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)
        if progress.figures:
            self._bar.set_postfix({name: show(value) for name, value in progress.figures.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").replace("e-", "").lstrip("-+").isdigit()
