"""``codec bench kv-speed``: how fast caches are coded, whole path to 16-bit arrays, and how much memory that takes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import codeckit
from codeckit import kv
from codeckit.codecs.kv.rotary import rotate, unrotate
from codeckit.formats.errors import InvalidParameter

from .kv_bench import default_data, stored_as
from .kv_caches import ReferenceCaches
from .provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codeckit.codecs.run_context import RunContext


__all__ = ["bench", "joined_cache"]

_OWN = {
    "model": "smollm2-135m",
    "data": "",
    "documents": "10;10,11,12,13",
    "context_tokens": "1024",
    "continuation_tokens": "256",
    "codecs": "kv:quality=66;kv:quality=66,profile=none;cachegen:level=300;kv-lossless",
    "threads": "1,2",
    "repeats": "9",
}

# A process of its own: the first call in it loads compiled code and profiles. Memory is that of the whole process at
# its peak, interpreter and libraries included; VmHWM, because ru_maxrss begins at the size of the parent.
_CHILD = """
import io, json, sys, time
import codeckit
from codeckit import kv
from codeckit.benchmarks.peak_memory import peak_memory_bytes, reset_peak_memory
task, source, codec, settings, threads, repeats = json.loads(sys.argv[1])
context = codeckit.RunContext(threads=threads)
data = open(source, "rb").read()
if task == "encode":
    cache = kv.decode(data, context=context)
    size = cache.table.size_bytes
    work = lambda: codeckit.encode(cache, io.BytesIO(), codec=codec, settings=settings, context=context)
else:
    work = lambda: kv.decode(data, context=context)
reset_peak_memory()
seconds = []
for _ in range(1 + repeats):
    start = time.perf_counter()
    done = work()
    seconds.append(time.perf_counter() - start)
    if len(seconds) == 1:
        peak = peak_memory_bytes()
        if task == "decode":
            size = done.table.size_bytes
    del done
print(json.dumps({"seconds": seconds, "peak_bytes": peak, "cache_bytes": size}))
"""


def bench(settings: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """Megabytes of a bf16 cache a second, in memory, each figure from a process of its own.

    Settings: ``model``, ``data``, ``documents`` (rows joined into one cache by commas, caches by semicolons),
    ``context_tokens``, ``codecs`` (joined by semicolons, each with its settings), ``threads`` (joined by commas),
    ``repeats``. ``cold`` is the first call of a process, ``warm`` the fastest of the repeats after it, ``median``
    their median. ``peak_mib`` is the memory of the whole process at its peak during the first call, ``allowed_mib``
    the cache (which one of the two directions reads and the other one makes) and a tenth of it, and 256 MiB.
    """
    unknown = settings.keys() - _OWN.keys()
    if unknown:
        raise InvalidParameter(f"kv-speed knows no setting {sorted(unknown)[0]!r}; there are {', '.join(_OWN)}")
    own = {**_OWN, **settings}
    data = Path(own["data"]) if own["data"] else default_data()
    caches = ReferenceCaches(own["model"], data, int(own["context_tokens"]), int(own["continuation_tokens"]))
    contexts = [[int(row) for row in item.split(",")] for item in own["documents"].split(";")]
    threads = [int(item) for item in own["threads"].split(",")]
    codecs = own["codecs"].split(";")
    rows: list[dict[str, Any]] = []
    for documents in contexts:
        cache = joined_cache(caches, documents, own["model"])
        for text in codecs:
            codec, _, options = text.partition(":")
            chosen = dict(item.split("=", 1) for item in options.split(",") if item)
            for count in threads:
                rows.append(
                    {
                        "benchmark": "kv-speed",
                        "model": own["model"],
                        "data": data.name,
                        "contexts": len(documents),
                        "tokens": cache.table.tokens,
                        "cache_bytes": cache.table.size_bytes,
                        "codec": codec,
                        "settings": options,
                        "threads": count,
                        **provenance(),
                        **_measured(cache, codec, chosen, count, int(own["repeats"])),
                    }
                )
                context.report("bench", len(rows), len(contexts) * len(codecs) * len(threads))
    return rows


def joined_cache(caches: ReferenceCaches, documents: Sequence[int], model: str) -> kv.Cache:
    """The bf16 cache of several contexts one after the other, their keys moved to where they then stand."""
    references = [caches.read(row) for row in documents]
    rotary = caches.rotary()
    keys = []
    first = 0
    for reference in references:
        here = np.arange(reference.keys.shape[2])
        moved = [rotate(unrotate(layer, rotary, here), rotary, here + first) for layer in reference.keys]
        keys.append(np.stack(moved))
        first += here.size
    return kv.from_arrays(
        stored_as(np.concatenate(keys, axis=2), "BF16"),
        stored_as(_joined([item.values for item in references]), "BF16"),
        rotary=rotary,
        model=Path(model).name,
        attention_mass=_joined([item.attention_mass for item in references]),
    )


def _joined(pieces: Sequence[Any]) -> Any:
    return np.concatenate(pieces, axis=2)


def _measured(
    cache: kv.Cache, codec: str, settings: Mapping[str, str], threads: int, repeats: int
) -> dict[str, float | int]:
    with tempfile.TemporaryDirectory() as folder:
        exact, coded = Path(folder) / "exact.ck", Path(folder) / "coded.ck"
        exact.write_bytes(codeckit.encode(cache, codec="kv-lossless"))
        coded.write_bytes(codeckit.encode(cache, codec=codec, settings=settings))
        result: dict[str, float | int] = {"file_bytes": coded.stat().st_size}
        for task, source in (("encode", exact), ("decode", coded)):
            found = _child([task, str(source), codec, settings, threads, repeats])
            size = found["cache_bytes"]
            cold, warm = found["seconds"][0], found["seconds"][1:]
            result |= {
                f"{task}_cold_mb_per_second": size / 1e6 / cold,
                f"{task}_warm_mb_per_second": size / 1e6 / min(warm),
                f"{task}_median_mb_per_second": size / 1e6 / statistics.median(warm),
                f"{task}_peak_mib": found["peak_bytes"] / (1 << 20),
            }
        result["allowed_mib"] = 1.1 * cache.table.size_bytes / (1 << 20) + 256
    return result


def _child(arguments: Sequence[Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
