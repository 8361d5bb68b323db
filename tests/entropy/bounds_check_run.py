"""Run in its own process with NUMBA_BOUNDSCHECK=1: native coding of every case and of damaged words."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()

import numpy as np

from codeckit.entropy import decode_lane_list, encode_lanes
from codeckit.entropy.lane_block import LaneBlock
from codeckit.formats.errors import CorruptFile

specification = importlib.util.spec_from_file_location("lane_cases", Path(__file__).with_name("lane_cases.py"))
lane_cases = importlib.util.module_from_spec(specification)
sys.modules["lane_cases"] = lane_cases
specification.loader.exec_module(lane_cases)

rng = np.random.default_rng(0)
damaged = refused = 0
for case in lane_cases.lane_cases():
    data = encode_lanes(case.values, case.tables, backend="native", **case.options)
    for found, lane in zip(decode_lane_list(data, backend="native"), case.values, strict=True):
        if found.tolist() != np.asarray(lane).tolist():
            sys.exit(f"{case.name} came back changed")
    block = LaneBlock.from_bytes(data)
    for _ in range(5):
        words = block.words.copy()
        if words.size == 0:
            continue
        words[rng.integers(words.size, size=1 + words.size // 9)] = rng.integers(1 << 32)
        fields = {name: getattr(block, name) for name in LaneBlock.__dataclass_fields__}
        forged = LaneBlock(**{**fields, "words": words}).to_bytes()
        damaged += 1
        try:
            decode_lane_list(forged, backend="native")
        except CorruptFile:
            refused += 1
print(f"all in bounds; {refused} of {damaged} damaged blocks refused")
