"""Run in its own process with TRITON_INTERPRET=1: the CUDA kernels, interpreted, on every case."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

from codeckit.entropy import decode_lane_list, encode_lanes
from codeckit.entropy.lane_block import LaneBlock
from codeckit.formats.errors import CorruptFile, InvalidParameter

specification = importlib.util.spec_from_file_location("lane_cases", Path(__file__).with_name("lane_cases.py"))
lane_cases = importlib.util.module_from_spec(specification)
sys.modules["lane_cases"] = lane_cases
specification.loader.exec_module(lane_cases)

SYMBOLS = 9  # the interpreter takes milliseconds for each

decoded = encoded = refused = 0
for case in lane_cases.lane_cases():
    lanes = [np.asarray(lane)[:SYMBOLS] for lane in case.values]
    data = encode_lanes(lanes, case.tables, backend="native", **case.options)
    for found, lane in zip(decode_lane_list(data, backend="triton"), lanes, strict=True):
        if found.tolist() != lane.tolist():
            sys.exit(f"{case.name} came back changed")
    decoded += 1
    block = LaneBlock.from_bytes(data)
    if lanes and not block.escape_counts.any() and len({lane.size for lane in lanes}) == 1:
        if encode_lanes(np.stack(lanes), case.tables, backend="triton", **case.options) != data:
            sys.exit(f"{case.name} was encoded into other bytes")
        encoded += 1
    else:
        try:
            encode_lanes(lanes, case.tables, backend="triton", **case.options)
        except InvalidParameter:
            refused += 1

table = lane_cases.laplace(256, 6, 12)
block = LaneBlock.from_bytes(encode_lanes(np.full((3, 5), 120), [table]))
fields = {name: getattr(block, name) for name in LaneBlock.__dataclass_fields__}
fields["words"] = np.append(block.words, np.uint32(3)).astype(np.uint32)
fields["word_offsets"] = block.word_offsets + np.array([0, 0, 0, 1])
try:
    decode_lane_list(LaneBlock(**fields).to_bytes(), backend="triton")
except CorruptFile as error:
    print(error)
print(f"{decoded} decoded, {encoded} encoded, {refused} refused")
