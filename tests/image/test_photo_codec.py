"""``pc`` from end to end: pictures in, files, the same pictures out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

import codeckit
from codeckit.benchmarks.image_parts import measured_parts
from codeckit.codecs.image.integer_network import load_integer_network
from codeckit.codecs.image.packaged_weights import packaged_network_path
from codeckit.codecs.image.tile_payload import TileCoder
from codeckit.formats.reader import ContainerReader

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def photograph(data_folder: Path) -> NDArray[np.uint8]:
    """A part of a Kodak photograph: uint8 [90, 131, 3]."""
    file = sorted((data_folder / "images" / "kodak").glob("*.png"))[4]
    return np.asarray(Image.open(file).convert("RGB"))[100:190, 200:331].copy()


@pytest.fixture(scope="module")
def tiled(photograph: NDArray[np.uint8]) -> bytes:
    """The photograph in tiles of 64 pixels."""
    return codeckit.encode(photograph, codec="pc", settings={"tile": 64})


@pytest.mark.parametrize("preset", ["fast", "balanced", "max"])
def test_presets_give_the_pixels_back_in_fewer_bytes_than_png(photograph: NDArray[np.uint8], preset: str) -> None:
    data = codeckit.encode(photograph, codec="pc", preset=preset, verify=True)
    assert np.array_equal(codeckit.decode(data), photograph)
    assert len(data) < 0.85 * len(_png(photograph))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 1), (5, 7)])
def test_every_mode_and_odd_sizes_come_back(
    photograph: NDArray[np.uint8], channels: int, size: tuple[int, int]
) -> None:
    tall = np.resize(photograph, (*size, 3))
    alpha = np.resize(np.arange(256, dtype=np.uint8), (*size, 1))
    pixels = {1: tall[..., 0], 2: np.dstack([tall[..., 0], alpha]), 3: tall, 4: np.dstack([tall, alpha])}[channels]
    assert np.array_equal(codeckit.decode(codeckit.encode(pixels, codec="pc")), pixels)


def test_colour_under_full_transparency_survives(photograph: NDArray[np.uint8]) -> None:
    pixels = np.dstack([photograph, np.zeros(photograph.shape[:2], np.uint8)])
    assert np.array_equal(codeckit.decode(codeckit.encode(pixels, codec="pc")), pixels)


def test_drawings_are_left_to_the_plain_mode() -> None:
    pixels = np.zeros((100, 120, 3), np.uint8)
    pixels[20:40, 30:90] = (255, 0, 128)
    data = codeckit.encode(pixels, codec="pc")
    assert np.array_equal(codeckit.decode(data), pixels)
    assert len(data) < 600


def test_bytes_depend_on_no_thread_count(photograph: NDArray[np.uint8]) -> None:
    files = {
        codeckit.encode(photograph, codec="pc", preset="fast", context=codeckit.RunContext(threads=threads))
        for threads in (1, 2, 3)
    }
    assert len(files) == 1
    (data,) = files
    for threads in (1, 3):
        assert np.array_equal(codeckit.decode(data, context=codeckit.RunContext(threads=threads)), photograph)


def test_integers_cost_next_to_nothing_against_floating_point(photograph: NDArray[np.uint8]) -> None:
    """Without adaptation, what is coded is as long as the mixture's likelihood in floating point says."""
    rows = list(measured_parts([photograph[:64, :128]]))  # sides that halve evenly: every block is whole
    rates = {row["part"]: row["ideal_bits_per_subpixel"] for row in rows}
    assert rates["network and circuit"] == pytest.approx(rates["circuit, floating point"], rel=5e-4)
    assert rates["circuit, floating point"] < rates["sub-pixels independent, floating point"]
    assert rates["and adaptive maps"] < rates["network and circuit"]


def test_pictures_encoded_together_have_the_bytes_they_have_alone(photograph: NDArray[np.uint8]) -> None:
    """For batches of 1, 3 and 16, on one thread and two."""
    crops = [photograph[top : top + 40, left : left + 33] for top in (0, 20, 45, 50) for left in (0, 30, 61, 90)]
    with_alpha = [np.dstack([crop, crop[::-1, :, 0]]) for crop in crops]
    network = load_integer_network(packaged_network_path())
    for tiles in (crops, with_alpha):
        payloads = []
        for threads, batch in ((1, 1), (2, 3), (1, 16), (2, 16)):
            with TileCoder(network, threads) as coder:
                parts = [tiles[start : start + batch] for start in range(0, 16, batch)]
                coded = [one for part in parts for one in coder.encode_together(part, lanes=1, regression=True)]
            payloads.append([one.payload for one in coded])
        assert all(other == payloads[0] for other in payloads[1:])


def test_old_files_stay_readable() -> None:
    """The golden file was written with the packaged weights; other weights need another golden file beside it."""
    assert np.array_equal(codeckit.decode(GOLDEN / "photograph.ck"), np.load(GOLDEN / "photograph.npy"))


def test_coarser_levels_are_the_picture_subsampled(photograph: NDArray[np.uint8], tiled: bytes) -> None:
    whole = codeckit.encode(photograph, codec="pc")
    for data, levels in ((whole, (1, 3, 9)), (tiled, (1, 3, 6))):
        for level in levels:
            selection = codeckit.Selection(settings={"level": str(level)})
            expected = photograph[:: 1 << level, :: 1 << level]
            assert np.array_equal(codeckit.decode(data, selection=selection), expected)
    with pytest.raises(codeckit.InvalidParameter, match="too coarse"):
        codeckit.decode(tiled, selection=codeckit.Selection(settings={"level": "7"}))


def test_windows_decode_only_their_tiles(photograph: NDArray[np.uint8], tiled: bytes) -> None:
    assert np.array_equal(codeckit.decode(tiled), photograph)
    with codeckit.open(tiled) as reader:
        assert np.array_equal(reader.pixels[10:80, 60:70], photograph[10:80, 60:70])
    # damage in the last tile does not touch a window in the first
    damaged = tiled[:-60] + bytes([tiled[-60] ^ 1]) + tiled[-59:]  # a compact file ends with its last payload
    with codeckit.open(damaged) as reader:
        assert np.array_equal(reader.pixels[:20, :20], photograph[:20, :20])
        with pytest.raises(codeckit.ChecksumMismatch):
            reader.pixels[70:, 100:]


def test_metadata_survives_from_png_to_png(photograph: NDArray[np.uint8], tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image = Image.fromarray(photograph)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    source = tmp_path / "in.png"
    image.save(source, icc_profile=profile, exif=exif, dpi=(300, 150), pnginfo=text, transparency=(1, 2, 3))
    codeckit.encode(source, tmp_path / "file.ck", codec="pc", verify=True)
    codeckit.decode(tmp_path / "file.ck", tmp_path / "out.png")
    out = Image.open(tmp_path / "out.png")
    assert out.info["icc_profile"] == profile
    assert out.getexif()[0x010E] == "a description"
    assert [round(value) for value in out.info["dpi"]] == [300, 150]
    assert out.info["transparency"] == (1, 2, 3)
    assert "xmpmeta" in str(out.info["XML:com.adobe.xmp"])
    assert np.array_equal(np.asarray(out), photograph)
    codeckit.decode(tmp_path / "file.ck", tmp_path / "out.webp")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.webp")), photograph)


def _carried_files(folder: Path, photograph: NDArray[np.uint8]) -> list[Path]:
    """Images that are more, or other, than 8-bit L, LA, RGB and RGBA."""
    image = Image.fromarray(photograph)
    image.quantize(20).save(folder / "palette.png")
    image.convert("CMYK").save(folder / "cmyk.tif")
    image.convert("1").save(folder / "bilevel.png")
    Image.fromarray(photograph[..., 0].astype(np.uint16) * 257).save(folder / "grey16.png")
    image.save(folder / "animated.gif", save_all=True, append_images=[image.rotate(90)])
    np.save(folder / "deep.npy", photograph.astype(np.uint16) * 3)
    return sorted(folder.iterdir())


def test_what_the_pyramid_cannot_code_is_carried_byte_for_byte(photograph: NDArray[np.uint8], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    files = _carried_files(tmp_path / "in", photograph)
    assert len(files) == 6
    for file in files:
        warnings: list[str] = []
        codeckit.encode(
            file, tmp_path / "file.ck", codec="pc", overwrite=True, verify=True,
            context=codeckit.RunContext(warn=warnings.append),
        )  # fmt: skip
        assert any("carried" in message for message in warnings)
        target = tmp_path / f"out{file.suffix}"
        codeckit.decode(tmp_path / "file.ck", target, overwrite=True)
        assert target.read_bytes() == file.read_bytes(), file.name
    with pytest.raises(codeckit.InvalidParameter, match=r"\.jpg"):
        codeckit.decode(tmp_path / "file.ck", tmp_path / "out.jpg")


def test_animations_warn(photograph: NDArray[np.uint8], tmp_path: Path) -> None:
    image = Image.fromarray(photograph)
    image.save(tmp_path / "animated.gif", save_all=True, append_images=[image.rotate(90)])
    warnings: list[str] = []
    codeckit.encode(tmp_path / "animated.gif", codec="pc", context=codeckit.RunContext(warn=warnings.append))
    assert any("animated (2 frames)" in message for message in warnings)


def test_sixteen_bit_colour_is_not_silently_reduced(tmp_path: Path) -> None:
    """Pillow would read such a file as 8-bit RGB."""
    file = tmp_path / "rgb16.png"
    file.write_bytes(_png_rgb16())
    codeckit.encode(file, tmp_path / "file.ck", codec="pc", verify=True)
    codeckit.decode(tmp_path / "file.ck", tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("damage", ["empty", "truncated", "crc", "text"])
def test_damaged_inputs_are_refused(photograph: NDArray[np.uint8], tmp_path: Path, damage: str) -> None:
    data = bytearray(_png(photograph))
    if damage == "crc":
        data[len(data) // 2] ^= 0xFF
    bad = {"empty": b"", "truncated": bytes(data[: len(data) // 2]), "text": b"no image"}.get(damage, bytes(data))
    file = tmp_path / "bad.png"
    file.write_bytes(bad)
    with pytest.raises(codeckit.CorruptFile):
        codeckit.encode(file, tmp_path / "out.ck", codec="pc")
    assert not (tmp_path / "out.ck").exists()


def test_images_above_the_limit_are_refused_before_decoding(photograph: NDArray[np.uint8], tmp_path: Path) -> None:
    file = tmp_path / "in.png"
    file.write_bytes(_png(photograph))
    context = codeckit.RunContext(limits=codeckit.Limits(max_pixels=1000))
    with pytest.raises(codeckit.LimitExceeded, match="max_pixels"):
        codeckit.encode(file, codec="pc", context=context)


def test_truncated_files_recover_whole_tiles(photograph: NDArray[np.uint8], tiled: bytes) -> None:
    cut = tiled[: ContainerReader(tiled).index()[-1].offset]
    with pytest.raises(codeckit.CorruptFile):
        codeckit.decode(cut)
    warnings: list[str] = []
    context = codeckit.RunContext(warn=warnings.append)
    recovered = codeckit.decode(cut, recover=True, context=context)
    assert np.array_equal(recovered[:64], photograph[:64])
    assert any("lost" in message for message in warnings)


def test_every_flipped_byte_is_noticed(tiled: bytes) -> None:
    for position in range(0, len(tiled), max(1, len(tiled) // 15)):
        damaged = bytearray(tiled)
        damaged[position] ^= 0x40
        with pytest.raises(codeckit.CodecError):
            codeckit.decode(bytes(damaged))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _png_rgb16() -> bytes:
    """A 2x2 PNG with 16 bits a sample, written by hand: Pillow cannot."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + struct.pack(">6H", *range(start, start + 6000, 1000)) for start in (1, 2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
