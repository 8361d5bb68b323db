"""``codec bench text``: the file codec against gzip, zstd, brotli, xz and PPMd in one process on the same data."""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import codeckit

from ..formats.errors import InvalidParameter
from .data_sets import data_root
from .peers import find_peer
from .provenance import provenance
from .text_bench_inputs import awkward_inputs, corpus, long_text
from .text_bench_process import STREAMS, start_up_rows, stream_rows

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bench"]

Row = dict[str, Any]

PRESETS = ("fast", "balanced", "max")
FIGURES = ("rate", "speed", "start-up", "threads", "awkward", "stream")
# Needs a model that is trained first, so it is not among the figures made unasked.
_ASKED_FIGURES = ("byte-models",)
_SETTINGS = ("data", "figures", "files", "presets", "threads", "stream_mib", "stream", "transformer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    folder: Path
    files: tuple[str, ...]
    figures: tuple[str, ...]
    presets: tuple[str, ...]
    threads: int
    stream_mib: int
    stream: str
    transformer: Path | None


def bench(settings: Mapping[str, str], context: codeckit.RunContext) -> list[Row]:
    """Rates, speeds, start-up, thread independence, awkward inputs and a long stream.

    Settings: ``data`` (folder of the corpora); ``files``, names of the table joined by ``;``; ``figures`` (of rate,
    speed, start-up, threads, awkward, stream) and ``presets``, joined by ``+``; ``threads`` for the speeds;
    ``stream_mib`` long is the stream, made of ``stream`` (lines, one-line, one-byte). The figure ``byte-models``
    measures the byte models alone, on held-out training books; ``transformer`` is the file that ``codec train text
    --set profile=transformer`` wrote.
    """
    plan = _plan(settings)
    makers: dict[str, Callable[[], Iterator[Row]]] = {
        "rate": lambda: _rates(plan, context),
        "speed": lambda: _speeds(plan, context),
        "start-up": lambda: start_up_rows(plan.presets),
        "threads": lambda: _threads(plan),
        "awkward": lambda: _awkward(plan),
        "stream": lambda: stream_rows(plan.stream_mib, plan.stream),
        "byte-models": lambda: _byte_models(plan),
    }
    rows = []
    for figure in plan.figures:
        for row in makers[figure]():
            context.check_cancelled()
            rows.append({"benchmark": "text", "figure": figure, **row, **provenance()})
    return rows


def _plan(settings: Mapping[str, str]) -> _Plan:
    unknown = settings.keys() - set(_SETTINGS)
    if unknown:
        raise InvalidParameter(f"unknown settings {sorted(unknown)}; known: {', '.join(_SETTINGS)}")
    folder = Path(settings.get("data", data_root() / "text" / "test"))
    if not folder.is_dir():
        raise InvalidParameter(f"{folder} is not a folder; name the one with the corpora with --set data=FOLDER")
    files = tuple(settings["files"].split(";")) if "files" in settings else ()
    figures = tuple(settings.get("figures", "+".join(FIGURES)).split("+"))
    presets = tuple(settings.get("presets", "+".join(PRESETS)).split("+"))
    for words, known in ((figures, FIGURES + _ASKED_FIGURES), (presets, PRESETS)):
        if not set(words) <= set(known):
            raise InvalidParameter(f"{'+'.join(words)}: there are {', '.join(known)}")
    try:
        threads, stream_mib = int(settings.get("threads", "2")), int(settings.get("stream_mib", "160"))
    except ValueError as error:
        raise InvalidParameter(f"threads and stream_mib are whole numbers: {error}") from error
    stream = settings.get("stream", "lines")
    if stream not in STREAMS:
        raise InvalidParameter(f"stream={stream} is not one of {', '.join(STREAMS)}")
    transformer = Path(settings["transformer"]) if "transformer" in settings else None
    return _Plan(
        folder=folder,
        files=files,
        figures=figures,
        presets=presets,
        threads=threads,
        stream_mib=stream_mib,
        stream=stream,
        transformer=transformer,
    )


def _byte_models(plan: _Plan) -> Iterator[Row]:
    from .text_bench_models import byte_model_rows  # loads torch

    if plan.transformer is None:
        raise InvalidParameter("the figure byte-models needs --set transformer=FILE")
    yield from byte_model_rows(data_root() / "text" / "train" / "english-books.txt.xz", plan.transformer)


def _ours(preset: str, data: bytes, threads: int | None) -> Row:
    """Both ways through the public functions; the rate is that of all bytes of the file."""
    context = codeckit.RunContext(threads=threads)
    start = time.perf_counter()
    coded = codeckit.encode(data, codec="text", preset=preset, context=context)
    middle = time.perf_counter()
    exact = codeckit.decode(coded, context=context) == data
    return _row(f"text {preset}", data, len(coded), middle - start, time.perf_counter() - middle, exact)


def _row(coder: str, data: bytes, coded_bytes: int, encode_s: float, decode_s: float, exact: bool) -> Row:
    return {
        "coder": coder,
        "input_bytes": len(data),
        "file_bytes": coded_bytes,
        "bits_per_byte": 8 * coded_bytes / len(data),
        "encode_kb_per_second": len(data) / encode_s / 1e3,
        "decode_kb_per_second": len(data) / decode_s / 1e3,
        "exact": exact,
    }


def _peers(data: bytes) -> Iterator[Row]:
    """Every peer on ``data``, each at its strongest setting."""
    start = time.perf_counter()
    packed = gzip.compress(data, compresslevel=9, mtime=0)
    middle = time.perf_counter()
    exact = gzip.decompress(packed) == data
    yield _row("gzip -9", data, len(packed), middle - start, time.perf_counter() - middle, exact)
    with tempfile.TemporaryDirectory() as folder:
        for label, name, values in (
            ("zstd -19", "zstd", {"level": 19}),
            ("brotli -q 11", "brotli", {"quality": 11}),
            ("xz -9e", "xz", {"level": 9, "extreme": True}),
            ("ppmd order 16", "ppmd", {"order": 16, "memory_mib": 256}),
        ):
            peer = find_peer(name)
            params = peer.Params(**values)
            target = Path(folder) / (name + peer.suffix)
            start = time.perf_counter()
            peer.encode(data, target, target, params)
            middle = time.perf_counter()
            try:
                exact = peer.decode(target, params, {}) == data
            except ValueError:  # pyppmd refuses some of its own files; that is its figure, not the end of ours
                exact = False
            yield _row(label, data, target.stat().st_size, middle - start, time.perf_counter() - middle, exact)


def _rates(plan: _Plan, context: codeckit.RunContext) -> Iterator[Row]:
    items = [(name, data) for name, data in corpus(plan.folder) if not plan.files or name in plan.files]
    for number, (name, data) in enumerate(items):
        context.report("rate", number, len(items), unit="files")
        for row in _peers(data):
            yield {"file": name, **row}
        for preset in plan.presets:
            yield {"file": name, **_ours(preset, data, None)}


def _speeds(plan: _Plan, context: codeckit.RunContext) -> Iterator[Row]:
    """Speeds on one long text; the peers run between the presets, so that a busy machine slows all of them."""
    data = long_text(plan.folder)
    for preset in plan.presets:
        _ours(preset, data[:1000], plan.threads)  # loads the compiled functions
    for row in _peers(data):
        context.check_cancelled()
        yield {"file": "4 MB of text", "threads": 1, **row}
    for preset in plan.presets:
        context.check_cancelled()
        yield {"file": "4 MB of text", "threads": plan.threads, **_ours(preset, data, plan.threads)}


def _threads(plan: _Plan) -> Iterator[Row]:
    """Whether the file's bytes depend on the number of threads."""
    data = long_text(plan.folder)[:400_000]
    for preset in plan.presets:
        coded = [
            codeckit.encode(
                data,
                codec="text",
                preset=preset,
                settings={"block_kib": 128},
                context=codeckit.RunContext(threads=threads),
            )
            for threads in (1, 2)
        ]
        exact = all(codeckit.decode(coded[0], context=codeckit.RunContext(threads=n)) == data for n in (1, 2))
        yield {"coder": f"text {preset}", "identical_bytes": coded[0] == coded[1], "exact": exact}


def _awkward(plan: _Plan) -> Iterator[Row]:
    """Inputs that break compressors: exact, and at most 0.1 % + 300 bytes above ``xz -9e``."""
    xz = find_peer("xz")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peer.xz"
        for name, data in awkward_inputs():
            xz.encode(data, target, target, xz.Params(level=9, extreme=True))
            xz_bytes = target.stat().st_size
            for preset in plan.presets:
                coded = codeckit.encode(data, codec="text", preset=preset)
                yield {
                    "file": name,
                    "coder": f"text {preset}",
                    "input_bytes": len(data),
                    "file_bytes": len(coded),
                    "xz_bytes": xz_bytes,
                    "within_bound": len(coded) <= xz_bytes * 1.001 + 300,
                    "exact": codeckit.decode(coded) == data,
                }
