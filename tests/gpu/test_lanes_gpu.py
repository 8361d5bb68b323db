"""Lane blocks on a CUDA device: the same bytes and the same integers as everywhere else."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codeckit.entropy import decode_lane_list, decode_lanes, decode_lanes_tensor, encode_lanes
from codeckit.entropy.lane_block import LaneBlock
from codeckit.formats.errors import CorruptFile

pytestmark = pytest.mark.gpu

_path = Path(__file__).parents[1] / "entropy" / "lane_cases.py"
_specification = importlib.util.spec_from_file_location("gpu_lane_cases", _path)
lane_cases = importlib.util.module_from_spec(_specification)
sys.modules["gpu_lane_cases"] = lane_cases
_specification.loader.exec_module(lane_cases)
CASES = lane_cases.lane_cases()


@pytest.fixture(autouse=True)
def _cuda():
    if not torch.cuda.is_available():
        if os.environ.get("CODECKIT_REQUIRE_GPU") == "1":
            pytest.fail("CODECKIT_REQUIRE_GPU=1, and torch sees no CUDA device")
        pytest.skip("needs a CUDA device")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_device_decodes_what_the_host_encoded(case):
    data = encode_lanes(case.values, case.tables, backend="native", **case.options)
    for found, lane in zip(decode_lane_list(data, backend="triton"), case.values, strict=True):
        assert found.tolist() == np.asarray(lane).tolist()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_device_writes_the_hosts_bytes(case):
    data = encode_lanes(case.values, case.tables, backend="native", **case.options)
    if not isinstance(case.values, np.ndarray) or LaneBlock.from_bytes(data).escape_counts.any():
        pytest.skip("the device encodes lanes of one length without escapes")
    tensor = torch.from_numpy(case.values).cuda()
    assert encode_lanes(tensor, case.tables, **case.options) == data


def test_tensors_stay_on_the_device():
    table = lane_cases.laplace(255, 3, 12, minimum=-127)
    values = lane_cases.draw(np.random.default_rng(0), table, (300, 1000)).astype(np.int8)
    decoded = decode_lanes_tensor(encode_lanes(torch.from_numpy(values).cuda(), [table]), device="cuda")
    assert decoded.is_cuda
    assert decoded.dtype == torch.int8
    assert torch.equal(decoded.cpu(), torch.from_numpy(values))


def test_damaged_words_name_the_lane():
    table = lane_cases.laplace(256, 6, 24)
    values = lane_cases.draw(np.random.default_rng(0), table, (6, 100))
    block = LaneBlock.from_bytes(encode_lanes(values, [table]))
    words = np.insert(block.words, block.word_offsets[4], [7, 7, 7])
    offsets = block.word_offsets + 3 * (np.arange(7) > 4)
    fields = {name: getattr(block, name) for name in LaneBlock.__dataclass_fields__}
    forged = LaneBlock(**{**fields, "words": words, "word_offsets": offsets}).to_bytes()
    with pytest.raises(CorruptFile, match="lane 4"):
        decode_lanes(forged, backend="triton")
