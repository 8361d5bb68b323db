"""Coding a cache takes little memory beside the cache itself, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import codeckit
from codeckit import kv

from . import synthetic

MIB = 1 << 20

# VmHWM, not ru_maxrss: that begins at the size of the process which started this one.
CHILD = """
import sys
import codeckit
from codeckit import kv
from codeckit.benchmarks.peak_memory import peak_memory_bytes, reset_peak_memory
task, path, codec = sys.argv[1:]
context = codeckit.RunContext(threads=2)
if task == "encode":
    cache = kv.decode(path, context=context)
    reset_peak_memory()
    codeckit.encode(cache, path + ".again", codec=codec, context=context)
else:
    kept = [kv.decode(path, context=context) for _ in range(4 if task == "hoard" else 1)]
print(peak_memory_bytes())
"""


def peak_bytes(task: str, path: Path, codec: str) -> int:
    done = subprocess.run([sys.executable, "-c", CHILD, task, str(path), codec], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


LAYERS, HEADS, TOKENS, WIDTH = 6, 8, 4000, 128
ALLOWED = 1.1 * LAYERS * 2 * HEADS * TOKENS * WIDTH * 2 + 256 * MIB


@pytest.fixture(scope="module")
def cache() -> kv.Cache:
    keys, values = synthetic.arrays(layers=LAYERS, heads=HEADS, tokens=TOKENS // 8, width=WIDTH)
    pair = [synthetic.as_dtype(np.tile(array, (1, 1, 8, 1)), "BF16") for array in (keys, values)]
    return kv.from_arrays(*pair, rotary=synthetic.ROTARY)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["kv", "cachegen", "kv-lossless"])
def test_memory_is_the_cache_a_tenth_of_it_and_256_mib(codec: str, cache: kv.Cache, tmp_path: Path) -> None:
    path = tmp_path / "cache.ck"
    codeckit.encode(cache, path, codec=codec)
    assert peak_bytes("decode", path, codec) < ALLOWED
    assert peak_bytes("encode", path, codec) < ALLOWED


@pytest.mark.slow
def test_the_figure_would_show_a_cache_that_is_held_several_times(cache: kv.Cache, tmp_path: Path) -> None:
    path = tmp_path / "cache.ck"
    codeckit.encode(cache, path, codec="cachegen")
    assert peak_bytes("hoard", path, "cachegen") > ALLOWED
