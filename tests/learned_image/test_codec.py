"""Pictures through files of the codec ``compressai``, with the weights that come with it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import codeckit
from codeckit import CorruptFile, InvalidParameter, LimitExceeded, UnsupportedInput
from codeckit.codecs.learned_image.model_file import load_model, packaged_model_path
from codeckit.codecs.learned_image.tiled_transforms import analyse, synthesise
from codeckit.codecs.learned_image.transforms import Transforms
from codeckit.codecs.learned_image.windows import Grid
from codeckit.codecs.run_context import RunContext
from codeckit.formats.limits import Limits
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter

from .conftest import smooth_picture

GOLDEN = Path(__file__).parent / "golden"


def psnr(first, second):
    return 10 * np.log10(255**2 / np.square(first.astype(float) - second).mean())


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (64, 64), (65, 129)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back(size, channels):
    picture = smooth_picture(*size, channels)
    decoded = codeckit.decode(codeckit.encode(picture, codec="compressai"))
    assert decoded.shape == (picture.shape if channels == 3 else picture.shape[:2])
    assert decoded.dtype == np.uint8


def test_quality_buys_bytes_and_fidelity(data_folder):
    with Image.open(data_folder / "images/kodak/kodim20.png") as opened:
        picture = np.asarray(opened)[100:356, 200:456]
    rates, distortions = [], []
    for quality in (0, 30, 70, 100):
        data = codeckit.encode(picture, codec="compressai", settings={"quality": quality})
        rates.append(len(data))
        distortions.append(psnr(codeckit.decode(data), picture))
    assert rates == sorted(rates)
    assert rates[-1] > 1.4 * rates[0]
    assert distortions == sorted(distortions)
    assert distortions[0] > 20
    assert distortions[-1] > distortions[0] + 0.8


def test_tiles_leave_no_seams():
    picture = smooth_picture(600, 530)
    model, grid = load_model(packaged_model_path()), Grid(600, 530, 64)
    assert grid.count() == 4
    transforms = Transforms.of(model, "cpu")
    padded = np.pad(picture, ((0, 40), (0, 46), (0, 0)), mode="edge").transpose(2, 0, 1)[None]
    whole = transforms.analysis(torch.from_numpy(padded.astype(np.float32)) / 255)[0].numpy()
    latents = analyse(picture, model, grid, RunContext())
    assert np.abs(latents - whole).max() < 1e-3 * np.abs(whole).max()
    rebuilt = transforms.synthesis(torch.from_numpy(whole)[None])[0].clamp(0, 1).numpy()
    pixels = np.empty_like(picture)
    synthesise(latents, model, grid, pixels, RunContext())
    assert np.abs(pixels - 255 * rebuilt.transpose(1, 2, 0)[:600, :530]).max() < 1


def test_a_tile_s_latents_are_coded_as_the_decoder_expects():
    picture = smooth_picture(530, 600)
    data = codeckit.encode(picture, codec="compressai", settings={"quality": 20})
    with codeckit.open(data) as reader:
        assert len(ContainerReader(data).index()) == 4
        symbols = reader.symbols()
        assert symbols.symbols.shape[1:] == (36, 40)
        assert psnr(reader.pixels(), picture) > 20


def test_metadata_travels_unless_refused(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(smooth_picture(30, 40)).save(path, dpi=(300, 300), icc_profile=b"profile" * 20)
    decoded = tmp_path / "decoded.png"
    codeckit.encode(path, tmp_path / "photo.ck", codec="compressai")
    codeckit.decode(tmp_path / "photo.ck", decoded)
    with Image.open(decoded) as image:
        assert image.info["icc_profile"] == b"profile" * 20
        assert round(image.info["dpi"][0]) == 300
    codeckit.encode(path, tmp_path / "bare.ck", codec="compressai", settings={"metadata": False})
    codeckit.decode(tmp_path / "bare.ck", tmp_path / "bare.png")
    with Image.open(tmp_path / "bare.png") as image:
        assert "icc_profile" not in image.info


def test_what_it_cannot_take_is_said():
    for picture in (smooth_picture(8, 8, 4), np.zeros((8, 8), np.uint16)):
        with pytest.raises(UnsupportedInput, match="codec pc"):
            codeckit.encode(picture, codec="compressai")
    with pytest.raises(InvalidParameter):
        codeckit.encode(smooth_picture(8, 8), codec="compressai", settings={"quality": 101})


def rewritten(data, change):
    """The file with other header parameters or payloads, and right checksums."""
    with ContainerReader(data) as reader:
        header, chunks = reader.header, list(reader.chunks())
    header, payloads = change(header, [chunk.payload for chunk in chunks])
    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    writer.write_header(header)
    for payload in payloads:
        writer.write_chunk("TILE", payload)
    writer.finish()
    return stream.getvalue()


def test_forged_files_are_refused():
    from dataclasses import replace

    data = codeckit.encode(smooth_picture(70, 40), codec="compressai")

    def header_with(**values):
        return lambda header, payloads: (replace(header, parameters={**header.parameters, **values}), payloads)

    for values in ({"size": [40, 2000]}, {"size": [40, 0]}, {"quality": 101}, {"quality": None}, {"mode": "CMYK"}):
        with pytest.raises(CorruptFile):
            codeckit.decode(rewritten(data, header_with(**values)))
    with pytest.raises(LimitExceeded):
        codeckit.decode(rewritten(data, header_with(size=[65_000, 65_000])))
    for payloads in ([], [b""], [b"\0" * 20]):
        with pytest.raises(CorruptFile):
            codeckit.decode(rewritten(data, lambda header, _, found=payloads: (header, found)))


def test_large_pictures_are_refused_before_anything_is_allocated():
    data = codeckit.encode(smooth_picture(70, 40), codec="compressai")
    with pytest.raises(LimitExceeded):
        codeckit.decode(data, context=RunContext(limits=Limits(max_pixels=1000)))
    with pytest.raises(LimitExceeded):
        codeckit.decode(data, context=RunContext(limits=Limits(max_memory_bytes=1000)))


def test_the_golden_file_holds_the_symbols_it_always_held():
    with codeckit.open(GOLDEN / "photo.ck") as reader:
        latents = reader.symbols()
        pixels = reader.pixels()
    expected = np.load(GOLDEN / "photo-symbols.npz")
    assert (latents.symbols == expected["symbols"]).all()
    assert (latents.side == expected["side"]).all()
    with Image.open(GOLDEN / "photo.png") as image:
        # floating point: the last bit of a pixel is the machine's own
        assert np.abs(pixels.astype(int) - np.asarray(image)).max() <= 1


def test_the_command_encodes_a_folder(tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number in range(2):
        Image.fromarray(smooth_picture(40 + number, 50)).save(inputs / f"{number}.png")
    command = [sys.executable, "-m", "codeckit.cli", "encode", str(inputs), "--output-dir", str(tmp_path / "out")]
    done = subprocess.run([*command, "--codec", "compressai", "--json"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["codec"] for row in rows] == ["compressai"] * 2
    assert all(row["bpp"] > 0 and row["psnr_db"] > 15 for row in rows)
