"""Everything that decides a symbol is exact: colour, tables, coder, network and corrections."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import constriction
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch.nn import functional

from codeckit.codecs.image.ans import AnsStack, encode_operations
from codeckit.codecs.image.colour import PLANE_RANGES, from_ycocg, to_ycocg
from codeckit.codecs.image.integer_network import IntegerNetwork, converted, load_integer_network, save_integer_network
from codeckit.codecs.image.logistic_tables import LogisticTables, logistic_tables
from codeckit.codecs.image.mixture_likelihood import log_likelihood, parameter_count
from codeckit.codecs.image.packaged_weights import packaged_network_path
from codeckit.codecs.image.pyramid import base_predictions_a
from codeckit.codecs.image.pyramid_coding import decode_tile, encode_tile, level_count
from codeckit.codecs.image.pyramid_network import Arithmetic, NetworkShape, PyramidNetwork
from codeckit.codecs.image.weight_restoring import restored
from codeckit.formats.errors import CorruptFile

TABLES_DIGEST = "2fef4fae395e4222adad85fa6261b2e43403f8eb493408af6a6291192185ee81"


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return load_integer_network(packaged_network_path())


@given(hnp.arrays(np.uint8, (5, 7, 3)))
def test_colours_come_back_and_stay_within_their_ranges(rgb: NDArray[np.uint8]) -> None:
    planes = to_ycocg(rgb)
    assert np.array_equal(from_ycocg(planes), rgb)
    for plane, (low, high) in zip(planes, PLANE_RANGES, strict=True):
        assert low <= plane.min()
        assert plane.max() <= high


def test_tables_are_the_recorded_integers_and_close_to_the_functions() -> None:
    tables = logistic_tables()
    digest = hashlib.sha256()
    for name in LogisticTables.__dataclass_fields__:
        digest.update(getattr(tables, name).astype("<i8").tobytes())
    assert digest.hexdigest() == TABLES_DIGEST
    position = np.arange(-2048, 2049) / 128
    assert np.abs(tables.cdf / 2**24 - 1 / (1 + np.exp(-position)))[1:-1].max() < 2**-23
    assert (np.diff(tables.cdf) >= 0).all()


def test_the_coder_is_that_of_constriction() -> None:
    generator = np.random.default_rng(0)
    frequencies = np.array([1, 2**24 - 500_001, 400_000, 100_000])
    starts = np.cumsum(frequencies) - frequencies
    symbols = generator.choice(4, 1000, p=[0.1, 0.5, 0.2, 0.2]).astype(np.int32)
    ours = encode_operations(starts[symbols].astype(np.uint32), frequencies[symbols].astype(np.uint32))
    reference = constriction.stream.stack.AnsCoder()
    model = constriction.stream.model.Categorical((frequencies - 1).astype(np.float64), perfect=False)
    reference.encode_reverse(symbols, model)
    assert ours == reference.get_compressed().astype("<u4").tobytes()


@given(st.lists(st.integers(-255, 255), max_size=50))
def test_uniform_values_come_back(values: list[int]) -> None:
    offsets = np.array(values, np.int64) + 255
    starts = (offsets << 24) // 511
    stack = AnsStack(
        encode_operations(starts.astype(np.uint32), (((offsets + 1) << 24) // 511 - starts).astype(np.uint32))
    )
    assert [stack.take_uniform(-255, 255) for _ in values] == values
    stack.check_exhausted()


def test_lanes_of_half_words_are_refused() -> None:
    with pytest.raises(CorruptFile, match="32-bit"):
        AnsStack(b"12345")


def test_the_network_is_the_same_for_every_thread_count_and_algorithm(network: IntegerNetwork) -> None:
    known = torch.randint(0, 256, (1, 3, 37, 29), generator=torch.Generator().manual_seed(0)).float()
    base = base_predictions_a(known)
    stage = network.stages[0]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        features, means = stage.features(known, base, 0, None, None)
        torch.set_num_threads(2)
        again, means_again = stage.features(known, base, 0, None, None)
        with torch.backends.mkldnn.flags(enabled=False):
            plain, means_plain = stage.features(known, base, 0, None, None)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(features, again)
    assert torch.equal(features, plain)
    assert torch.equal(means, means_again)
    assert torch.equal(means, means_plain)
    assert torch.equal(features, features.round())


def test_float32_sums_equal_float64_sums(network: IntegerNetwork) -> None:
    """The largest weights against the largest inputs: no accumulator rounds."""
    for name, weight in network.tensors.items():
        if name.endswith(("gather.weight", "mix.weight", "from_coarser.weight")):
            worst = (1023 * weight.sign()).flatten(1).float()
            single = (worst * weight.flatten(1).float()).sum(1)
            double = (worst.double() * weight.flatten(1).double()).sum(1)
            assert torch.equal(single.double(), double), name
            assert double.max() < 2**24, name


def test_conversion_changes_the_network_only_by_rounding() -> None:
    torch.manual_seed(0)
    network = PyramidNetwork(NetworkShape(channels=16, states=3, residual_blocks=1))
    integers = converted(network)
    planes = torch.from_numpy(to_ycocg(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)))
    planes = functional.avg_pool2d(planes[None].float(), 3, 1, 1).round()
    known = planes[:, :, ::2, ::2]
    with torch.no_grad():
        (first, _), _ = network.level(planes, 0, None, arithmetic=Arithmetic.FLOAT32)
    features, means = integers.stages[0].features(known, base_predictions_a(known), 0, None, None)
    means = means.permute(0, 2, 3, 1).reshape(first.means.shape)
    assert torch.allclose(features / 64, first.features, atol=0.05)
    assert torch.allclose(means / 1024, first.means, atol=0.01)
    assert torch.allclose(integers.stages[0].parameters(features) / 1024, first.parameters, atol=0.1)


def test_shipped_weights_can_be_trained_further(network: IntegerNetwork) -> None:
    """Restored and converted again, they are the same integers, but where a channel lies on the edge of a scale."""
    again = converted(restored(network))
    assert again.tensors.keys() == network.tensors.keys()
    for name, tensor in network.tensors.items():
        if name.endswith(".weight"):
            exponent = name.removesuffix("weight") + "exponent"
            kept = torch.ones(len(tensor), dtype=torch.bool)
            if exponent in network.tensors:
                kept = network.tensors[exponent] == again.tensors[exponent]
            assert kept.float().mean() > 0.97
            assert torch.equal(again.tensors[name][kept], tensor[kept])


def test_weights_that_could_round_or_are_damaged_are_refused(network: IntegerNetwork, tmp_path: Path) -> None:
    name = "stages.0.blocks.0.gather.weight"
    large = {**network.tensors, name: network.tensors[name] * 16}
    with pytest.raises(CorruptFile, match="too large"):
        IntegerNetwork(large, network.shape)
    partial = {key: value for key, value in network.tensors.items() if key != name}
    with pytest.raises(CorruptFile, match="incomplete"):
        IntegerNetwork(partial, network.shape)
    path = tmp_path / "weights.safetensors"
    save_integer_network(network, path, {})
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile):
        load_integer_network(path)


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    grey=st.booleans(),
    lanes=st.integers(1, 3),
    regression=st.booleans(),
    level=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_tiles_of_any_shape_come_back_at_any_level(
    network: IntegerNetwork, height: int, width: int, grey: bool, lanes: int, regression: bool, level: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    rgb = generator.integers(0, 1 + generator.integers(1, 256), (height, width, 3)).astype(np.uint8)
    planes = rgb[None, :, :, 0].astype(np.int16) if grey else to_ycocg(rgb)
    with ThreadPoolExecutor(2) as pool:
        encoded = encode_tile(planes, network, lanes=lanes, regression=regression, pool=pool)
        reached = min(level, level_count(height, width))
        shape = (len(planes), height, width)
        found = decode_tile(encoded.lanes, shape, network, level=reached, regression=regression, pool=pool)
    assert np.array_equal(found, planes[:, :: 1 << reached, :: 1 << reached])
    assert 8 * sum(map(len, encoded.lanes)) <= encoded.bits + 64 * lanes + 32


def test_the_likelihood_is_that_of_the_mixture_and_its_gradient_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    variables, states = 2, 3
    parameters = torch.randn(5, parameter_count(variables, states), generator=generator) / 4
    values = torch.randint(-3, 4, (5, variables), generator=generator).float()
    base = torch.randn(5, variables, generator=generator)

    def reference(row: torch.Tensor) -> torch.Tensor:
        cells = variables * states
        means, scales = (
            row[:, :cells].view(-1, variables, states),
            row[:, cells : 2 * cells].view(-1, variables, states),
        )
        logits, regression = row[:, 2 * cells : 2 * cells + states], row[:, 2 * cells + states :]
        residual = values.double() - base.double()
        centre = torch.stack([torch.zeros(5).double(), regression[:, 0] * residual[:, 0]], 1)
        signed = (residual - centre)[:, :, None] - 4 * means
        inverse = torch.exp(-scales.clamp(-3, 5))
        mass = torch.sigmoid((signed + 0.5) * inverse) - torch.sigmoid((signed - 0.5) * inverse)
        return torch.logsumexp(torch.log_softmax(logits, 1) + mass.log().sum(1), 1)

    expected = parameters.double().requires_grad_()
    wanted = reference(expected)
    wanted.sum().backward()
    given_row = parameters.clone().requires_grad_()
    found = log_likelihood(given_row, values, base, states=states)
    found.sum().backward()
    assert torch.allclose(found.double(), wanted, atol=1e-4)
    assert expected.grad is not None
    assert given_row.grad is not None
    assert torch.allclose(given_row.grad.double(), expected.grad, atol=1e-3)
