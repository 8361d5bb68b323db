"""The ``kvtc`` baseline: allocation is optimal, components pack exactly, files come back with their profile only."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codeckit
from codeckit import kv
from codeckit.codecs.kv.kvtc.allocation import BITS, GROUP_SIZES, Group, allocate, cost_bits, group_errors
from codeckit.codecs.kv.kvtc.components import pack_components, unpack_components
from codeckit.codecs.kv.kvtc.profile import KVTCProfile, save_profile
from codeckit.codecs.kv.kvtc.training import fit_components
from codeckit.codecs.kv.rotary import unrotate

from . import synthetic

LAYERS, HEADS, WIDTH = 3, 2, 16


def cache(*, tokens: int = 200, model: str = "tiny", dtype: str = "F16", seed: int = 0) -> kv.Cache:
    return synthetic.cache(layers=LAYERS, heads=HEADS, width=WIDTH, tokens=tokens, model=model, dtype=dtype, seed=seed)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # fitted on the very statistics of the caches under test: their shared part and their spreads follow from the seed
    keys, values = synthetic.arrays(layers=LAYERS, heads=HEADS, width=WIDTH, tokens=600)
    unrotated = np.stack([unrotate(own, synthetic.ROTARY, np.arange(600)) for own in keys])
    parts = [fit_components(own.transpose(2, 0, 1, 3).reshape(600, -1), 96) for own in (unrotated, values)]
    path = tmp_path_factory.mktemp("kvtc") / "tiny.safetensors"
    with path.open("wb") as file:
        save_profile(KVTCProfile(model="tiny", shape=(LAYERS, HEADS, WIDTH), parts=(parts[0], parts[1])), file)
    return path


def encoded(source: kv.Cache, profile: Path, **settings: int) -> bytes:
    chosen = {"profile": str(profile), **{key: str(value) for key, value in settings.items()}}
    result: bytes = codeckit.encode(source, codec="kvtc", settings=chosen)
    return result


def decoded(data: bytes, profile: Path) -> kv.Cache:
    return kv.decode(data, settings={"profile": str(profile)})


@pytest.mark.parametrize("budget", [0, 64, 96, 288, 600, 5000])
def test_allocation_is_the_best_there_is(budget: int) -> None:
    rng = np.random.default_rng(budget)
    components = (rng.normal(size=(50, 48)) * np.exp(-np.arange(48) / 8)).astype(np.float32)
    errors = group_errors(components)
    groups = allocate(errors, budget)
    assert sum(map(cost_bits, groups)) <= budget

    def total(chosen: list[Group]) -> float:
        error, start = 0.0, 0
        for group in chosen:
            error += errors[start // 16, GROUP_SIZES.index(group.size), BITS.index(group.bits)]
            start += group.size
        return error + float(np.square(components[:, start:]).sum(axis=1, dtype=np.float64).mean())

    every = (
        [Group(16, bits) for bits in row]
        for row in itertools.product(BITS, repeat=3)
        if sum(cost_bits(Group(16, bits)) for bits in row) <= budget
    )
    assert total(groups) <= min(map(total, every)) * (1 + 1e-9)


def test_fewer_tokens_than_features_give_the_same_components() -> None:
    features = np.random.default_rng(2).normal(size=(60, 80)).astype(np.float32) * np.exp(-np.arange(80) / 15)
    few = fit_components(features.astype(np.float32), 32).basis.astype(np.float64)
    centred = features - features.mean(axis=0)
    expected = np.linalg.svd(centred)[2][:32]
    np.testing.assert_allclose(np.abs(np.sum(few * expected.T, axis=0)), 1, atol=1e-2)


def test_components_come_back_within_half_a_step() -> None:
    rng = np.random.default_rng(5)
    components = rng.normal(size=(30, 112)).astype(np.float32)
    groups = [Group(16, 16), Group(16, 8), Group(64, 2), Group(16, 4)]
    found = unpack_components(pack_components(components, groups), 30, groups, "test")
    np.testing.assert_array_equal(found[:, :16], components[:, :16].astype(np.float16))
    for start, stop, levels in ((16, 32, 255), (32, 96, 3), (96, 112, 15)):
        block = components[:, start:stop]
        step = (block.max(axis=1) - block.min(axis=1)) / levels
        assert (np.abs(found[:, start:stop] - block) <= 0.55 * step[:, None] + 2e-3).all()


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_caches_come_back_and_the_ends_exactly(profile: Path, dtype: str) -> None:
    source = cache(dtype=dtype)
    sizes, errors = [], []
    for budget in (400, 1500, 6000):
        data = encoded(source, profile, budget_millibits=budget, window=20, chunk_tokens=70)
        found = decoded(data, profile)
        assert found.table == source.table
        sizes.append(len(data))
        pairs = list(zip(kv.to_arrays(source), kv.to_arrays(found), strict=True))
        errors.append(sum(float(np.square(a - b).mean()) for a, b in pairs))
        for wanted, own in pairs:
            np.testing.assert_array_equal(wanted[:, :, :4], own[:, :, :4])
            np.testing.assert_array_equal(wanted[:, :, 180:], own[:, :, 180:])
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 * errors[0]


@pytest.mark.parametrize("tokens", [1, 5, 24, 25])
def test_short_caches_are_exact_but_for_what_lies_between(profile: Path, tokens: int) -> None:
    source = cache(tokens=tokens)
    found = kv.to_arrays(decoded(encoded(source, profile, window=20), profile))
    wanted = kv.to_arrays(source)
    kept = np.r_[:4, max(tokens - 20, 0) : tokens]
    kept = kept[kept < tokens]
    np.testing.assert_array_equal(found[0][:, :, kept], wanted[0][:, :, kept])


def test_what_does_not_fit_is_named(profile: Path, tmp_path: Path) -> None:
    data = encoded(cache(), profile)
    with pytest.raises(codeckit.InvalidParameter, match="train kvtc"):
        codeckit.encode(cache(), codec="kvtc")
    with pytest.raises(codeckit.InvalidParameter, match="needs the profile"):
        kv.decode(data)
    with pytest.raises(codeckit.InvalidParameter, match=r"'other'.*'tiny'"):
        encoded(cache(model="other"), profile)
    with pytest.raises(codeckit.InvalidParameter, match="3 layers of 2 heads"):
        encoded(synthetic.cache(layers=2, model="tiny"), profile)
    with pytest.raises(codeckit.InvalidParameter, match="rope_theta"):
        encoded(synthetic.cache(layers=LAYERS, heads=HEADS, width=WIDTH, rotary=None), profile)
    with pytest.raises(codeckit.InvalidParameter, match="decoded whole"):
        kv.decode(data, layers=(0, 1), settings={"profile": str(profile)})
    other = tmp_path / "other.safetensors"
    other.write_bytes(profile.read_bytes().replace(b'"model":"tiny"', b'"model":"tidy"'))
    with pytest.raises(codeckit.InvalidParameter, match="'tidy'"):
        decoded(data, other)
    keys, values = synthetic.arrays(layers=LAYERS, heads=HEADS, width=WIDTH)
    values[2, 1, 7, 5] = np.inf
    with pytest.raises(codeckit.InvalidParameter, match=r"layer 2 value.*infinity at head 1, token 7, channel 5"):
        encoded(kv.from_arrays(keys, values, rotary=synthetic.ROTARY), profile)


def test_truncated_and_damaged_files_are_refused(profile: Path) -> None:
    data = encoded(cache(tokens=60), profile, window=10)
    for length in range(0, len(data), 101):
        with pytest.raises(codeckit.CodecError):
            decoded(data[:length], profile)
    for place in range(0, len(data), 67):
        damaged = bytearray(data)
        damaged[place] ^= 4
        with pytest.raises(codeckit.CodecError):
            decoded(bytes(damaged), profile)


def test_deflate_streams_of_another_length_are_refused() -> None:
    groups = [Group(16, 4)]
    packed = pack_components(np.zeros((8, 16), np.float32), groups)
    for tokens in (7, 9, 1 << 20):
        with pytest.raises(codeckit.CorruptFile, match="inflated"):
            unpack_components(packed, tokens, groups, "test")
    with pytest.raises(codeckit.CorruptFile, match="DEFLATE"):
        unpack_components(b"nothing of the kind", 8, groups, "test")


def test_golden_file(data_of_golden: Any) -> None:
    data, profile, expected = data_of_golden
    np.testing.assert_allclose(np.stack(kv.to_arrays(decoded(data, profile))), expected, rtol=2e-3, atol=2e-3)


@pytest.fixture
def data_of_golden() -> tuple[bytes, Path, Any]:
    folder = Path(__file__).parent / "golden" / "kvtc"
    return (folder / "kvtc.ck").read_bytes(), folder / "kvtc.safetensors", np.load(folder / "kvtc.npy")
