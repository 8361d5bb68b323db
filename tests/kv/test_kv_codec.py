"""The ``kv`` codec without a profile: bounded errors, exact ranges, and clear words about bad input."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codeckit
from codeckit import kv
from codeckit.formats.reader import ContainerReader
from codeckit.formats.tensors import Tensor

from . import synthetic


def encode(cache: kv.Cache, **settings: object) -> bytes:
    return codeckit.encode(cache, codec="kv", settings={key: str(value) for key, value in settings.items()})


def relative_error(cache: kv.Cache, data: bytes) -> float:
    wanted, found = kv.to_arrays(cache), kv.to_arrays(kv.decode(data))
    errors = [np.square(a - b).mean() / a.var() for a, b in zip(wanted, found, strict=True)]
    return float(np.sqrt(np.mean(errors)))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("transform", ["heads", "none"])
def test_six_more_quality_halves_the_error(dtype: str, transform: str) -> None:
    cache = synthetic.cache(dtype=dtype)
    errors = [relative_error(cache, encode(cache, quality=q, transform=transform)) for q in (50, 56, 62)]
    assert 0.05 < errors[0] < 0.6
    for coarse, fine in pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


def test_files_are_smaller_than_sixteen_bits_by_their_own_account() -> None:
    cache = synthetic.cache(tokens=600)
    data = encode(cache)
    found = kv.decode(data)
    assert found.table == cache.table
    assert len(data) < cache.table.size_bytes / 3
    report = codeckit.info(data)
    assert report.description["layers"] == 4
    assert report.rates["bits_per_element"] == 8 * len(data) / cache.table.elements


@pytest.mark.parametrize("chunk_tokens", [1, 7, 128, 512])
def test_ranges_equal_the_whole(chunk_tokens: int) -> None:
    cache = synthetic.cache(tokens=130)
    data = encode(cache, chunk_tokens=chunk_tokens)
    whole = kv.to_arrays(kv.decode(data))
    for layers, tokens in (((0, None), (5, 6)), ((1, 3), (0, None)), ((3, None), (100, 130)), ((0, 1), (6, 15))):
        part = kv.to_arrays(kv.decode(data, layers=layers, tokens=tokens))
        for one, other in zip(whole, part, strict=True):
            np.testing.assert_array_equal(one[slice(*layers), :, slice(*tokens)], other)


def test_a_range_reads_only_its_chunks(tmp_path: Path) -> None:
    path = tmp_path / "cache.ck"
    path.write_bytes(encode(synthetic.cache(tokens=400), chunk_tokens=50))
    damaged = bytearray(path.read_bytes())
    with ContainerReader(path) as reader:
        assert reader.index()[-1].type == "KVLB"
    damaged[-9] ^= 0xFF  # in the last chunk: a compact file ends with its payloads
    path.write_bytes(damaged)
    kv.decode(path, tokens=(0, 350))
    kv.decode(path, layers=(0, 3))
    with pytest.raises(codeckit.CorruptFile):
        kv.decode(path, tokens=(0, 351))


def test_threads_do_not_change_a_bit() -> None:
    data = encode(synthetic.cache(tokens=500))
    one, two = (kv.to_arrays(kv.decode(data, context=codeckit.RunContext(threads=n))) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    cache = synthetic.cache(tokens=500)
    assert codeckit.encode(cache, codec="kv", context=codeckit.RunContext(threads=1)) == data


@pytest.mark.parametrize("symbols", [1, 5000])
def test_how_much_is_coded_at_once_does_not_change_a_bit(symbols: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = synthetic.cache(tokens=500)
    data = encode(cache, chunk_tokens=300)
    whole = kv.to_arrays(kv.decode(data))
    for module in ("waves", "chunk_decoding"):
        monkeypatch.setattr(f"codeckit.codecs.kv.{module}.WAVE_SYMBOLS", symbols)
    assert encode(cache, chunk_tokens=300) == data
    for threads in (1, 2, 5):
        found = kv.decode(data, context=codeckit.RunContext(threads=threads))
        np.testing.assert_array_equal(kv.to_arrays(found), whole)


def test_attention_mass_moves_precision_to_the_tokens_that_matter() -> None:
    keys, values = synthetic.arrays(tokens=400)
    mass = np.full((4, 2, 400), 1e-4, np.float32)
    mass[:, :, 200:250] = 1e-2
    cache = kv.from_arrays(keys, values, attention_mass=mass)
    found = kv.to_arrays(kv.decode(encode(cache)))
    errors = np.abs(found[1] - values).mean(axis=(0, 1, 3))
    assert errors[200:250].mean() < errors[50:200].mean() / 4


def test_positions_move_the_keys_and_leave_the_values() -> None:
    cache = synthetic.cache(dtype="F32", tokens=64)
    data = encode(cache, quality=90)
    here = kv.to_arrays(kv.decode(data))
    there = kv.decode(data, positions=np.arange(64) + 500)
    assert there.table.first_position == 500
    moved = kv.to_arrays(there)
    np.testing.assert_array_equal(here[1], moved[1])
    angles = 500 * np.asarray(synthetic.ROTARY.inverse_frequencies)
    first, second = here[0][..., :8], here[0][..., 8:]
    expected = np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=-1
    )
    np.testing.assert_allclose(moved[0], expected, atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(
    layers=st.integers(1, 3),
    heads=st.integers(1, 3),
    tokens=st.integers(1, 40),
    width=st.sampled_from([2, 6, 16]),
    dtype=st.sampled_from(["F16", "BF16", "F32"]),
    chunk_tokens=st.integers(1, 50),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
)
def test_any_shape_comes_back(
    layers: int, heads: int, tokens: int, width: int, dtype: str, chunk_tokens: int, scale: float
) -> None:
    keys, values = synthetic.arrays(layers=layers, heads=heads, tokens=tokens, width=width)
    pair = [synthetic.as_dtype(array * np.float32(scale), dtype) for array in (keys, values)]
    cache = kv.from_arrays(*pair)
    found = kv.decode(encode(cache, chunk_tokens=chunk_tokens, quality=80))
    assert found.table == cache.table
    for one, other in zip(kv.to_arrays(cache), kv.to_arrays(found), strict=True):
        assert np.abs(one - other).max() <= 0.1 * np.abs(one).max() + 1e-7


def test_tokens_that_are_all_zero_come_back() -> None:
    keys, values = synthetic.arrays()
    keys[:, :, 7], values[:, :, 7] = 0, 0
    found = kv.to_arrays(kv.decode(encode(kv.from_arrays(keys, values), quality=90)))
    assert np.isfinite(found).all()
    assert np.abs(found[0][:, :, 7]).max() < 0.05 * np.abs(keys).max()


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_values_that_are_not_finite_are_named(value: float, word: str) -> None:
    keys, values = synthetic.arrays()
    values[2, 1, 33, 5] = value
    with pytest.raises(codeckit.InvalidParameter, match=rf"layer 2 value.*{word}.*head 1, token 33, channel 5"):
        encode(kv.from_arrays(keys, values))


def test_tables_that_disagree_are_refused() -> None:
    keys, values = synthetic.arrays()
    with pytest.raises(codeckit.UnsupportedInput, match="layer 0 has 300 tokens of key and 299 of value"):
        kv.from_arrays(keys, values[:, :, 1:])
    with pytest.raises(codeckit.UnsupportedInput, match="empty"):
        kv.from_arrays(keys[:, :, :0], values[:, :, :0])
    with pytest.raises(codeckit.UnsupportedInput, match="empty"):
        kv.from_arrays(keys[:0], values[:0])
    ragged = {
        "layers.0.key": keys[0],
        "layers.0.value": values[0],
        "layers.1.key": keys[1, :, 100:],
        "layers.1.value": values[1, :, 100:],
    }
    with pytest.raises(codeckit.UnsupportedInput, match="sliding_window=true"):
        codeckit.encode(ragged, codec="kv")
    with pytest.raises(codeckit.UnsupportedInput, match=r"layers\.0\.state"):
        codeckit.encode({**ragged, "layers.0.state": keys[0]}, codec="kv")
    with pytest.raises(codeckit.UnsupportedInput, match="I64"):
        codeckit.encode({"layers.0.key": keys[0].astype(np.int64), "layers.0.value": values[0]}, codec="kv")


def test_every_cut_is_noticed() -> None:
    data = encode(synthetic.cache(tokens=60, layers=2), chunk_tokens=20)
    for length in range(0, len(data), 97):
        with pytest.raises(codeckit.CodecError):
            kv.decode(data[:length])


def _mixed_cache() -> kv.Cache:
    """A latent layer, a grouped-query layer, and a layer of a sliding window that has dropped 20 tokens."""
    rng = np.random.default_rng(3)

    def part(role: str, heads: int, width: int) -> kv.PartTable:
        return kv.PartTable(role=role, heads=heads, width=width, dtype="F32")  # type: ignore[arg-type]

    layers = (
        kv.LayerTable(parts=(part("latent", 1, 24), part("rope_key", 1, 8))),
        kv.LayerTable(parts=(part("key", 2, 8), part("value", 2, 12))),
        kv.LayerTable(parts=(part("key", 1, 8), part("value", 1, 8)), first_token=20),
    )
    parts = {
        (number, own.role): Tensor(
            dtype="F32", data=rng.normal(size=(own.heads, 50 - row.first_token, own.width)).astype(np.float32)
        )
        for number, row in enumerate(layers)
        for own in row.parts
    }
    table = kv.CacheTable(layers=layers, tokens=50, rotary=kv.Rotary.from_theta(10_000.0, 8))
    return kv.Cache(table=table, parts=parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["kv", "kv-lossless"])
def test_latent_grouped_and_windowed_layers(codec: str, tmp_path: Path) -> None:
    cache = _mixed_cache()
    chosen = {"chunk_tokens": "16", **({"quality": "90"} if codec == "kv" else {})}
    data = codeckit.encode(cache, codec=codec, settings=chosen)
    found = kv.decode(data)
    assert found.table == cache.table
    tolerance = 0.05 if codec == "kv" else 0
    for place, tensor in cache.parts.items():
        np.testing.assert_allclose(found.parts[place].data, tensor.data, atol=tolerance)
    some = kv.decode(data, layers=(1, 3), tokens=(18, 40))
    np.testing.assert_array_equal(some.parts[0, "value"].data, found.parts[1, "value"].data[:, 18:40])
    np.testing.assert_array_equal(some.parts[1, "key"].data, found.parts[2, "key"].data[:, :20])
    assert some.table.layers[1].first_token == 2
    path = tmp_path / "cache.safetensors"
    codeckit.decode(data, path)
    again = codeckit.encode(path, codec="kv-lossless")
    assert kv.decode(again).table == replace(cache.table, model="")


def test_a_stacked_array_comes_back_stacked() -> None:
    keys, values = synthetic.arrays(layers=3, tokens=20)
    stacked = np.stack([keys, values], axis=1).swapaxes(2, 3).astype(np.float16)
    data = codeckit.encode(stacked, codec="kv-lossless")
    np.testing.assert_array_equal(codeckit.decode(data), stacked)
