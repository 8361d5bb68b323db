"""Pictures in ``.npy`` files are read and written where they lie, so that memory does not grow with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import codeckit


def test_npy_files_are_written_where_they_are_decoded(data_folder: Path, tmp_path: Path) -> None:
    file = sorted((data_folder / "images" / "kodak").glob("*.png"))[4]
    grey = np.asarray(Image.open(file).convert("L"))[:300, :200]
    colour = np.dstack([grey, grey[::-1], grey])
    for pixels in (grey, colour):
        np.save(tmp_path / "in.npy", pixels)
        codeckit.encode(tmp_path / "in.npy", tmp_path / "f.ck", codec="pc", settings={"tile": 128}, overwrite=True)
        codeckit.decode(tmp_path / "f.ck", tmp_path / "out.npy", overwrite=True)
        assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "in.npy").read_bytes()
    before = (tmp_path / "out.npy").read_bytes()
    damaged = bytearray((tmp_path / "f.ck").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "f.ck").write_bytes(damaged)
    with pytest.raises(codeckit.CorruptFile):
        codeckit.decode(tmp_path / "f.ck", tmp_path / "out.npy", overwrite=True)
    assert (tmp_path / "out.npy").read_bytes() == before
