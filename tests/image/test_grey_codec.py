"""``pc-grey`` from end to end: stacks in, files, stacks out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import codeckit
from codeckit.codecs.image.circuit_coding import LANE_IMAGES
from codeckit.codecs.image.grey_model import GreyModel
from codeckit.codecs.image.integer_circuit import IntegerCircuit, save_circuit

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def digits_file(digits: NDArray[np.uint8]) -> bytes:
    return codeckit.encode(digits[:1500], codec="pc-grey")


def test_a_stack_comes_back_and_costs_what_the_model_says(digits: NDArray[np.uint8], digits_file: bytes) -> None:
    stack = digits[:1500]
    assert np.array_equal(codeckit.decode(digits_file), stack)
    rate = 8 * len(digits_file) / stack.size
    model = GreyModel.load()
    ideal = np.mean([model.bits_per_pixel(stack[start : start + 500]) for start in range(0, 1500, 500)])
    assert rate < 1.24
    # the container and two lanes cost about 300 bytes, the integers 0.05 %
    assert rate - 8 * 300 / stack.size == pytest.approx(ideal, rel=1e-3)


def test_bytes_do_not_depend_on_threads(digits: NDArray[np.uint8], digits_file: bytes) -> None:
    one = codeckit.encode(digits[:1500], codec="pc-grey", context=codeckit.RunContext(threads=1))
    assert one == digits_file


def test_old_files_stay_readable() -> None:
    """The golden file was written by bitstream version 1; a change of profile must not break it silently."""
    expected = np.load(GOLDEN / "digits.npy")
    assert np.array_equal(codeckit.decode(GOLDEN / "digits.ck"), expected)


def test_images_are_reached_at_random(digits: NDArray[np.uint8], digits_file: bytes) -> None:
    with codeckit.open(digits_file) as reader:
        assert len(reader.images) == 1500
        assert np.array_equal(
            reader.images[LANE_IMAGES - 2 : LANE_IMAGES + 2], digits[LANE_IMAGES - 2 : LANE_IMAGES + 2]
        )
        assert np.array_equal(reader.images[-1], digits[1499])
        with pytest.raises(IndexError):
            reader.images[1500]
    chosen = codeckit.decode(digits_file, selection=codeckit.Selection(settings={"images": "1290:1295"}))
    assert np.array_equal(chosen, digits[1290:1295])


def test_noise_falls_back_to_a_plain_mode() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    data = codeckit.encode(stack, codec="pc-grey")
    assert np.array_equal(codeckit.decode(data), stack)
    assert len(data) < stack.size + 700


def test_folders_idx_and_npy_files_go_in_and_come_out(digits: NDArray[np.uint8], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(digits[number]).save(folder / f"digit-{number}.png")
    codeckit.encode(folder, tmp_path / "folder.ck", codec="pc-grey", verify=True)
    codeckit.decode(tmp_path / "folder.ck", tmp_path / "out")
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == [f"digit-{n}.png" for n in range(5)]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "digit-3.png")), digits[3])
    codeckit.decode(tmp_path / "folder.ck", tmp_path / "out.idx")
    codeckit.encode(tmp_path / "out.idx", tmp_path / "idx.ck", codec="pc-grey", verify=True)
    codeckit.decode(tmp_path / "idx.ck", tmp_path / "out.npy")
    assert np.array_equal(np.load(tmp_path / "out.npy"), digits[:5])


def test_another_model_is_needed_again_to_decode(small_circuit: IntegerCircuit, tmp_path: Path) -> None:
    model = tmp_path / "small.safetensors"
    save_circuit(small_circuit, model)
    stack = np.random.default_rng(1).integers(0, 256, (40, 3, 4)).astype(np.uint8)
    data = codeckit.encode(stack, codec="pc-grey", settings={"model": str(model)})
    with pytest.raises(codeckit.NumericProfileMismatch, match="model=FILE"):
        codeckit.decode(data)
    selection = codeckit.Selection(settings={"model": str(model)})
    assert np.array_equal(codeckit.decode(data, selection=selection), stack)


def test_images_of_another_size_or_depth_are_refused() -> None:
    with pytest.raises(codeckit.UnsupportedInput, match="28x28"):
        codeckit.encode(np.zeros((3, 27, 28), np.uint8), codec="pc-grey")
    with pytest.raises(codeckit.UnsupportedInput, match="uint8"):
        codeckit.encode(np.zeros((3, 28, 28), np.uint16), codec="pc-grey")


@pytest.mark.parametrize("position", [60, 200, 700, -40])
def test_damage_is_an_error_and_truncation_recovers_whole_lanes(digits_file: bytes, position: int) -> None:
    damaged = bytearray(digits_file)
    damaged[position] ^= 0x10
    with pytest.raises(codeckit.CodecError):
        codeckit.decode(bytes(damaged))
    with pytest.raises(codeckit.TruncatedFile):
        codeckit.decode(digits_file[: len(digits_file) // 2])


def test_the_model_completes_half_a_digit_better_than_black(digits: NDArray[np.uint8]) -> None:
    model = GreyModel.load()
    images = digits[:50]
    observed = np.ones(images.shape, np.bool_)
    observed[:, 14:] = False
    filled = model.inpaint(images, observed)
    assert np.array_equal(filled[:, :14], images[:, :14])
    error = np.abs(filled[:, 14:].astype(int) - images[:, 14:]).mean()
    assert error < 0.9 * images[:, 14:].mean()
    drawn = model.sample(50, seed=1, images=images, observed=observed)
    assert np.array_equal(drawn[:, :14], images[:, :14])
    assert model.bits_per_pixel(model.sample(50, seed=2)) < 1.6
