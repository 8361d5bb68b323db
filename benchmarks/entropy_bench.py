"""``codec bench entropy``: lane blocks against constriction in the same process, and what else was promised of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ..entropy.frequency_table import FrequencyTable
from ..entropy.lane_block import LaneBlock
from ..entropy.lanes import decode_lanes, encode_lanes
from ..formats.errors import InvalidParameter
from .provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..codecs.run_context import RunContext

__all__ = ["bench"]

_SETTINGS = {"lanes": 1024, "symbols": 4096, "repeats": 9, "threads": 2, "seed": 1}


def bench(settings: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """Speed, size, start-up and memory of lane blocks.

    Settings: ``lanes``, ``symbols`` (of each lane), ``repeats`` (medians are taken), ``threads``, ``seed``.
    """
    own = {name: _whole(settings.get(name, default), name) for name, default in _SETTINGS.items()}
    unknown = set(settings) - set(own)
    if unknown:
        raise InvalidParameter(f"unknown settings {sorted(unknown)}; known: {', '.join(own)}")
    head = {"benchmark": "entropy", **own, **provenance()}
    rows = []
    for name, slots, scale, bits in (
        ("256 symbols, 12-bit tables", 256, 6.0, 12),
        ("256 symbols, 24-bit tables", 256, 6.0, 24),
        ("256 symbols of low entropy, 12-bit tables", 256, 0.4, 12),
        ("4096 symbols, 24-bit tables", 4096, 90.0, 24),
    ):
        table = _laplace(slots, scale, bits)
        values = _draw(table, (own["lanes"], own["symbols"]), own["seed"])
        rows += _speeds(name, table, values, own)
    rows += [_warm_start(), _memory()]
    rows.append(_cuda(own))
    return [{**head, **row} for row in rows]


def _whole(value: str | int, name: str) -> int:
    try:
        number = int(value)
    except ValueError as error:
        raise InvalidParameter(f"{name}={value} is not a whole number") from error
    if number < 1:
        raise InvalidParameter(f"{name} must be at least 1, got {number}")
    return number


def _laplace(slots: int, scale: float, bits: int) -> FrequencyTable:
    counts = (1e9 * np.exp(-np.abs(np.arange(slots) - slots // 2) / scale)).astype(np.int64)
    return FrequencyTable.from_counts(counts, bits=bits)


def _draw(table: FrequencyTable, shape: tuple[int, int], seed: int) -> NDArray[Any]:
    quantiles = np.random.default_rng(seed).integers(0, 1 << 24, shape)
    slots = np.searchsorted(table.cumulative, quantiles, side="right") - 1
    return slots.astype(np.uint8 if table.slots <= 256 else np.uint16)


def _speeds(name: str, table: FrequencyTable, values: NDArray[Any], own: dict[str, int]) -> list[dict[str, Any]]:
    """Decoding and encoding through the public functions against bare constriction calls."""
    from constriction import stream

    model = stream.model.Categorical(table.frequencies.astype(np.float64) - 1.0, perfect=False)
    data = encode_lanes(values, [table], backend="native")
    identical = data == encode_lanes(values, [table], backend="constriction")
    block = LaneBlock.from_bytes(data)
    lanes = np.split(block.words.astype(np.uint32), block.word_offsets[1:-1])
    symbols = values.astype(np.int32)
    threads = own["threads"]

    def constriction_decode() -> None:
        for words in lanes:
            stream.stack.AnsCoder(words).decode(model, own["symbols"])

    def constriction_encode() -> None:
        for lane in symbols:
            coder = stream.stack.AnsCoder()
            coder.encode_reverse(lane, model)
            coder.get_compressed()

    exact = bool((decode_lanes(data, threads=threads) == values).all())
    ideal_bytes = table.code_length_bits(values) / 8
    shared = {"case": name, "bits_per_symbol": round(8 * ideal_bytes / values.size, 3)}
    decoding = _compare(lambda: decode_lanes(data, threads=threads), constriction_decode, values.size, own["repeats"])
    encoding = _compare(
        lambda: encode_lanes(values, [table], threads=threads), constriction_encode, values.size, own["repeats"]
    )
    return [
        {"figure": "decode", **shared, **decoding, "exact": exact},
        {"figure": "encode", **shared, **encoding, "identical_bytes": identical},
        {"figure": "size", **shared, "bytes": len(data), "excess_percent": 100 * (len(data) / ideal_bytes - 1)},
    ]


def _compare(ours: Callable[[], object], theirs: Callable[[], object], symbols: int, repeats: int) -> dict[str, Any]:
    """Medians over repeats in which both run one after the other, so that a busy machine slows both.

    ``speedup`` is in elapsed time with all threads; ``speedup_per_core`` in processor time.
    """
    ours()
    seconds: list[tuple[float, float, float, float]] = []
    for _ in range(repeats):
        elapsed_theirs, processor_theirs = _timed(theirs)
        # Short runs are repeated: one could fall wholly into another program's time slice.
        runs = [_timed(ours) for _ in range(5)]
        elapsed, processor = (statistics.median(column) for column in zip(*runs, strict=True))
        seconds.append((elapsed, processor, elapsed_theirs, processor_theirs))
    elapsed_ratios = [row[2] / row[0] for row in seconds]
    return {
        "msymbols_per_second": symbols / statistics.median(row[0] for row in seconds) / 1e6,
        "constriction_msymbols_per_second": symbols / statistics.median(row[2] for row in seconds) / 1e6,
        "speedup": statistics.median(elapsed_ratios),
        "speedup_range": [min(elapsed_ratios), max(elapsed_ratios)],
        "speedup_per_core": statistics.median(row[3] / row[1] for row in seconds),
    }


def _timed(job: Callable[[], object]) -> tuple[float, float]:
    elapsed, processor = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - elapsed, time.process_time() - processor


_WARM_START = """
import json, time
import numpy as np
from codeckit.entropy import FrequencyTable, decode_lanes, encode_lanes
table = FrequencyTable.from_counts(np.arange(1, 257), bits=12)
values = np.zeros((8, 64), np.uint8)
elapsed, processor = time.perf_counter(), time.process_time()
import numba
imported, imported_processor = time.perf_counter(), time.process_time()
decode_lanes(encode_lanes(values, [table], backend="native"), backend="native")
print(json.dumps({
    "import_numba_seconds": imported - elapsed,
    "import_numba_cpu_seconds": imported_processor - processor,
    "ready_seconds": time.perf_counter() - imported,
    "ready_cpu_seconds": time.process_time() - imported_processor,
}))
"""


def _warm_start() -> dict[str, Any]:
    """From ``import numba`` until a block has been encoded and decoded, in a process with a filled cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        cold = _child(_WARM_START, environment)
        warm = [_child(_WARM_START, environment) for _ in range(5)]
    medians = {name: statistics.median(run[name] for run in warm) for name in warm[0]}
    return {
        "figure": "warm_start",
        **medians,
        "cold_ready_seconds": cold["ready_seconds"],
        "cold_ready_cpu_seconds": cold["ready_cpu_seconds"],
    }


_MEMORY = """
import json
import numpy as np
from codeckit.entropy import FrequencyTable, decode_lanes, encode_lanes
table = FrequencyTable.from_counts(np.ones(200, np.int64), bits=12)
decode_lanes(encode_lanes(np.zeros((8, 64), np.uint8), [table]))
data = encode_lanes(np.random.default_rng(0).integers(0, 200, (8192, 8192), np.uint8), [table])
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")
def resident(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) << 10
before = resident("VmRSS")
out = decode_lanes(data)
print(json.dumps({"output_bytes": out.nbytes, "compressed_bytes": len(data),
                  "peak_bytes": resident("VmHWM") - before + len(data)}))
"""


def _memory() -> dict[str, Any]:
    """The peak while decoding, the compressed data included, and what the promise allows."""
    found = _child(_MEMORY, dict(os.environ))
    allowed = found["output_bytes"] + 2 * found["compressed_bytes"] + (64 << 20)
    return {"figure": "peak_memory", **found, "allowed_bytes": allowed}


def _child(script: str, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _cuda(own: dict[str, int]) -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        return {"figure": "cuda_decode", "device": None}
    from ..entropy.lane_codes import plan_codes
    from ..entropy.lanes_triton import decode_tensor

    table = _laplace(256, 6.0, 12)
    lanes = 65536
    few = _draw(table, (1024, own["symbols"]), own["seed"])
    block = LaneBlock.from_bytes(encode_lanes(np.tile(few, (lanes // 1024, 1)), [table]))
    plan = plan_codes(block.tables)
    everything = np.arange(lanes)
    decode_tensor(block, everything, plan)
    seconds = []
    for _ in range(own["repeats"]):
        torch.cuda.synchronize()
        start = time.perf_counter()
        decode_tensor(block, everything, plan)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {
        "figure": "cuda_decode",
        "device": torch.cuda.get_device_name(),
        "gsymbols_per_second": block.symbols / statistics.median(seconds) / 1e9,
    }
