"""Readers inside torch's DataLoader: opened once, decoded by workers however they start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import codeckit

GOLDEN = Path(__file__).parent / "golden" / "hnerv-1.ck"


class Frames(Dataset[torch.Tensor]):
    """The frames of a file, uint8 [H, W, 3], through one reader that travels to the workers."""

    def __init__(self, path: Path) -> None:
        self._reader = codeckit.open(path)
        self._count = len(self._reader.timestamps)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self._reader.frames[number]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_decode_the_same_frames(method: str) -> None:
    frames = Frames(GOLDEN)
    expected = codeckit.decode(GOLDEN)
    loader = DataLoader(frames, batch_size=2, num_workers=2, multiprocessing_context=method)
    assert np.array_equal(torch.cat(list(loader)).numpy(), expected)
