"""What a worker does with one item: encode it to a file, decode that file, score what came back; errors become rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..formats.errors import CodecError, CorruptFile
from .items import Item, load_item
from .peak_memory import peak_memory_bytes, reset_peak_memory
from .peers import ORIGINAL, content_form, find_peer, peer_parameters
from .rates import rate_divisor
from .scorers import find_scorer

__all__ = ["CellResult", "CellTask", "ItemJob", "ItemResult", "ScoreResult", "code_item"]

# a codec's first use loads libraries and compiles kernels, and is not timed unless to repeat it would take this long
WARM_UP_SECONDS = 3.0
_warm: set[str] = set()
_latest: list[tuple[Item, Any]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTask:
    """What is to be done for one cell; ``stored`` is the file of an earlier run when only scores are missing."""

    key: str
    codec: str
    preset: str | None
    settings: Mapping[str, Any]
    stored: Path | None
    scorers: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemJob:
    """An item with some of its cells."""

    item: Item
    tasks: Sequence[CellTask]
    timing_repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """A score, or why there is none."""

    scorer: str
    value: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """A cell's outcome: the file with its times, or an ``error``. ``data`` is None when it was stored already.

    Seconds are medians over the repeats, ``coding_seconds`` all that was spent in the codec, first uses and repeats
    included; ``peak_memory_bytes`` is that of the whole process while coding.
    """

    key: str
    error: str | None = None
    data: bytes | None = None
    divisor: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    coding_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    scores: Sequence[ScoreResult] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """The outcomes of an item's cells, the seconds the whole of it took, and those of reading the item."""

    cells: Sequence[CellResult]
    seconds: float
    reading_seconds: float


def code_item(job: ItemJob) -> ItemResult:
    """Do all tasks of ``job``."""
    start = time.perf_counter()
    try:
        content = _content(job.item)
        read = time.perf_counter()
    except Exception as error:
        read = time.perf_counter()
        cells = [CellResult(key=task.key, error=_describe(error)) for task in job.tasks]
    else:
        # one folder for all cells: on some file systems it takes as long as coding a picture
        with TemporaryDirectory(prefix="codec-bench-") as folder:
            cells = [_code_cell(job, task, content, Path(folder)) for task in job.tasks]
    return ItemResult(cells=cells, seconds=time.perf_counter() - start, reading_seconds=read - start)


def _content(item: Item) -> Any:
    """The item in memory; the latest one is kept, since jobs of one item follow one another."""
    if not _latest or _latest[0][0] != item:
        _latest.clear()
        _latest.append((item, load_item(item)))
    return _latest[0][1]


def _code_cell(job: ItemJob, task: CellTask, content: Any, folder: Path) -> CellResult:
    try:
        return _code(job, task, content, folder)
    except Exception as error:  # whatever one codec does on one item is a row, never the end of the sweep
        return CellResult(key=task.key, error=_describe(error))


def _code(job: ItemJob, task: CellTask, content: Any, folder: Path) -> CellResult:
    peer = find_peer(task.codec)
    params = peer_parameters(peer, task.preset, task.settings)
    form = content_form(job.item.kind, content)
    target = folder / f"coded{peer.suffix}"

    def encode() -> None:
        target.unlink(missing_ok=True)
        peer.encode(content, job.item.path, target, params)

    def decode(path: Path) -> Any:
        return content if task.codec == ORIGINAL else peer.decode(path, params, form)

    if task.stored is not None:
        decoded = decode(task.stored)
        return CellResult(key=task.key, scores=_scores(job.item, task, content, decoded))
    reset_peak_memory()
    encoding = _timed(f"{task.codec} encode", encode, job.timing_repeats)
    decoding = _timed(f"{task.codec} decode", lambda: decode(target), job.timing_repeats)
    memory = peak_memory_bytes()
    data = target.read_bytes()
    if not data:
        raise CorruptFile("the codec wrote an empty file")
    return CellResult(
        key=task.key,
        data=data,
        divisor=rate_divisor(job.item.kind, content),
        encode_seconds=encoding.median,
        decode_seconds=decoding.median,
        coding_seconds=encoding.total + decoding.total,
        peak_memory_bytes=memory,
        scores=_scores(job.item, task, content, decoding.value),
    )


def _scores(item: Item, task: CellTask, content: Any, decoded: Any) -> list[ScoreResult]:
    results = []
    for name in task.scorers:
        start = time.perf_counter()
        try:
            found = find_scorer(name).score(item, content, decoded)
        except Exception as error:
            results.append(ScoreResult(scorer=name, error=_describe(error)))
            continue
        seconds = time.perf_counter() - start
        results.append(ScoreResult(scorer=name, value=found.value, detail=found.detail, seconds=seconds))
    return results


@dataclass(frozen=True, slots=True)
class _Timing:
    median: float
    total: float
    value: Any


def _timed(name: str, action: Callable[[], Any], repeats: int) -> _Timing:
    """Median and all seconds of ``action`` and its last value; the first ever of ``name`` here is not in the median."""
    seconds: list[float] = []
    total, value = 0.0, None
    while len(seconds) < repeats:
        start = time.perf_counter()
        value = action()
        spent = time.perf_counter() - start
        total += spent
        if name in _warm or spent > WARM_UP_SECONDS:
            seconds.append(spent)
        _warm.add(name)
    return _Timing(statistics.median(seconds), total, value)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, CodecError) else f"{type(error).__name__}: {error}"
