"""Integer circuits code images exactly, at the model's rate, and independently of batch and threads."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codeckit.codecs.image.circuit_coding import BATCH, LANE_IMAGES, decode_lane, encode_lane
from codeckit.codecs.image.grey_classes import learn_classes
from codeckit.codecs.image.grey_model import GreyModel
from codeckit.codecs.image.integer_circuit import IntegerCircuit, load_circuit, save_circuit
from codeckit.codecs.image.packaged_weights import packaged_circuit_path
from codeckit.formats.errors import CorruptFile, InvalidParameter

PACKAGED_DIGEST = "219c617bc5f9cf0cd0b5bb1390013512061d83205acf5f511fdb7604eb5223b0"


def _images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 12)).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 2, BATCH - 1, BATCH, BATCH + 1, LANE_IMAGES])
def test_lanes_decode_to_what_was_encoded(small_circuit: IntegerCircuit, count: int) -> None:
    images = _images(count)
    assert np.array_equal(decode_lane(small_circuit, encode_lane(small_circuit, images), count), images)


def test_code_length_is_that_of_the_floating_point_model(small_circuit: IntegerCircuit) -> None:
    images = _images(1000)
    model = GreyModel(small_circuit)
    expected = model.bits_per_pixel(images.reshape(-1, 3, 4))
    found = 8 * len(encode_lane(small_circuit, images)) / images.size
    assert found == pytest.approx(expected, rel=5e-4, abs=64 / images.size)


def test_bytes_do_not_depend_on_the_order_of_the_states(small_circuit: IntegerCircuit) -> None:
    order = np.random.default_rng(0).permutation(small_circuit.states)
    shuffled = IntegerCircuit(
        height=3,
        width=4,
        tree=small_circuit.tree,
        classes=small_circuit.classes,
        root=small_circuit.root[order],
        transitions=small_circuit.transitions[:, order][:, :, order],
        leaves=small_circuit.leaves[:, order],
    )
    images = _images(300)
    assert encode_lane(shuffled, images) == encode_lane(small_circuit, images)


@settings(max_examples=25, deadline=None)
@given(data=st.binary(min_size=0, max_size=400), count=st.integers(1, 20))
def test_arbitrary_bytes_never_decode_silently_to_nothing_else(
    small_circuit: IntegerCircuit, data: bytes, count: int
) -> None:
    """Either the bytes are refused, or they are the very stream of the images they decode to."""
    try:
        images = decode_lane(small_circuit, data, count)
    except CorruptFile:
        return
    assert encode_lane(small_circuit, images) == data


def test_a_saved_circuit_loads_as_the_same_and_damage_is_seen(small_circuit: IntegerCircuit, tmp_path: Path) -> None:
    path = tmp_path / "circuit.safetensors"
    save_circuit(small_circuit, path)
    assert load_circuit(path).digest == small_circuit.digest
    damaged = bytearray(path.read_bytes())
    damaged[-300] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptFile):
        load_circuit(path)
    path.write_bytes(damaged[:50])
    with pytest.raises(CorruptFile):
        load_circuit(path)
    with pytest.raises(InvalidParameter, match="no such file"):
        load_circuit(tmp_path / "absent.safetensors")


def test_packaged_weights_are_those_that_files_name() -> None:
    assert load_circuit(packaged_circuit_path()).digest == PACKAGED_DIGEST


def test_grey_classes_are_runs_whose_frequencies_are_whole() -> None:
    histogram = np.zeros(256, np.int64)
    histogram[0], histogram[255], histogram[100:120] = 10_000, 500, 20
    classes = learn_classes(histogram, 10)
    assert classes.class_of_grey[0] == 0
    assert classes.class_of_grey[255] == classes.count - 1
    assert classes.first_grey[1] == 1
    runs = [len(list(run)) for _, run in itertools.groupby(classes.class_of_grey)]
    assert sum(runs) == 256
    assert len(runs) == classes.count
