"""``codec bench vectors-speed``: gigabytes of float32 a second, and that memory does not grow with the file."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import codeckit

from ..formats.errors import ExternalFailure, InvalidParameter
from .provenance import provenance
from .sentence_embeddings import embedded_passages
from .vectors_grid import parse_configuration

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bench"]

_CONFIGURATIONS = (
    "dtype=float8_e4m3",
    "dtype=float8_e4m3 entropy=none",
    "dtype=float8_e4m3 pca=50%",
    "dtype=int8",
    "dtype=int4",
    "dtype=int6 calibration=common pca=100%",
    "dtype=float16",
    "dtype=float32",
)
_SETTINGS = {"figures": "speed,memory", "repeats": "3", "copies": "10", "configurations": ";".join(_CONFIGURATIONS)}
# in a process of its own: what earlier work has touched stays in the peak
_WORK = """
import json, sys
from pathlib import Path
import numpy as np
import codeckit
from codeckit import vectors
from codeckit.benchmarks.peak_memory import peak_memory_bytes
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
peaks = {}
codeckit.encode(folder / "in.npy", folder / "store.ck", codec="vectors", settings=settings, overwrite=True)
peaks["encode"] = peak_memory_bytes()
codeckit.decode(folder / "store.ck", folder / "out.npy", overwrite=True)
peaks["decode"] = peak_memory_bytes()
with codeckit.open(folder / "store.ck") as reader:
    reader.search(np.load(folder / "queries.npy"), k=10)
peaks["search"] = peak_memory_bytes()
vectors.append(folder / "store.ck", folder / "queries.npy")
peaks["append"] = peak_memory_bytes()
print(json.dumps(peaks))
"""


def bench(settings: Mapping[str, str], context: codeckit.RunContext) -> list[dict[str, Any]]:
    """Speed and memory on embedded passages, repeated ``copies`` times.

    Settings: ``figures`` (``speed``, ``memory``), ``repeats`` (the fastest counts), ``copies``, and ``configurations``
    separated by semicolons. Encoding writes a file and includes fitting; decoding reads it, checks all of its
    checksums and gives an array.
    """
    unknown = set(settings) - set(_SETTINGS)
    if unknown:
        raise InvalidParameter(f"unknown settings {sorted(unknown)}; known: {', '.join(_SETTINGS)}")
    own = {**_SETTINGS, **settings}
    passages = embedded_passages(report=lambda done, total: context.report("embed", done, total, unit="texts"))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        if "speed" in own["figures"].split(","):
            values = np.tile(passages.passages, (int(own["copies"]), 1))
            for text in own["configurations"].split(";"):
                rows.append(_speed(text, values, int(own["repeats"]), Path(name), context))
                context.report("speed", len(rows), None, unit="configurations")
            del values
        if "memory" in own["figures"].split(","):
            rows += _memory(passages.passages, passages.queries[:100], int(own["copies"]), Path(name))
    origin = provenance()
    return [{**row, **origin} for row in rows]


def _speed(
    text: str, values: NDArray[np.float32], repeats: int, folder: Path, context: codeckit.RunContext
) -> dict[str, Any]:
    settings = dict(parse_configuration(text).settings)
    path = folder / "store.ck"
    codeckit.decode(codeckit.encode(values[:5000], codec="vectors", settings=settings, context=context))  # compiles
    runs = []
    for _ in range(repeats):
        clocks = [_clocks()]
        codeckit.encode(values, path, codec="vectors", settings=settings, context=context, overwrite=True)
        clocks.append(_clocks())
        decoded = codeckit.decode(path, context=context)
        clocks.append(_clocks())
        del decoded
        runs.append(np.diff(clocks, axis=0))
    # the fastest of each: what else the machine does only ever takes time
    rates = values.nbytes / 1e9 / np.min(runs, axis=0)  # [encode and decode, wall and processor]
    return {
        "benchmark": "vectors-speed",
        "settings": text,
        "input_megabytes": values.nbytes / 1e6,
        "threads": context.threads or "all",
        "encode_gb_per_s": round(float(rates[0, 0]), 3),
        "decode_gb_per_s": round(float(rates[1, 0]), 3),
        "encode_gb_per_cpu_s": round(float(rates[0, 1]), 3),
        "decode_gb_per_cpu_s": round(float(rates[1, 1]), 3),
        "file_bytes": path.stat().st_size,
    }


def _clocks() -> tuple[float, float]:
    """Seconds on the wall and of this process on all cores."""
    return time.perf_counter(), time.process_time()


def _memory(
    passages: NDArray[np.float32], queries: NDArray[np.float32], copies: int, folder: Path
) -> Iterator[dict[str, Any]]:
    np.save(folder / "queries.npy", queries)
    settings = {"dtype": "float8_e4m3", "pca": "50%"}
    for factor in (1, 4):
        with (folder / "in.npy").open("wb") as stream:
            shape = (len(passages) * copies * factor, passages.shape[1])
            np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for _ in range(copies * factor):
                stream.write(passages.astype("<f4", copy=False).data)
        command = [sys.executable, "-c", _WORK, str(folder), json.dumps(settings)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ExternalFailure(f"measuring memory failed: {done.stderr[-500:]}")
        peaks = json.loads(done.stdout)
        yield {
            "benchmark": "vectors-memory",
            "settings": " ".join(f"{key}={value}" for key, value in settings.items()),
            "input_megabytes": (folder / "in.npy").stat().st_size / 1e6,
            **{f"{what}_peak_mib": round(size / (1 << 20), 1) for what, size in peaks.items()},
        }
