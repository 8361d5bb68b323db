"""The ``kv-stages`` codec: each stage keeps its promise, combinations decode, bad options and bytes are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import codeckit
from codeckit import kv
from codeckit.codecs.kv.stages.gear import find_outliers, fit_low_rank, low_rank_values
from codeckit.codecs.kv.stages.groups import dequantise_groups, quantise_groups, step_values
from codeckit.codecs.kv.stages.pieces import PieceShape, fit_piece, piece_values
from codeckit.codecs.kv.stages.plan import StagesParams

from . import synthetic

SHAPE = PieceShape(tokens=200, width=16, bits=2, group=32, by_channel=True, rank=0, outliers_permille=20)


def encoded(cache: kv.Cache, **settings: Any) -> bytes:
    result: bytes = codeckit.encode(cache, codec="kv-stages", settings={k: str(v) for k, v in settings.items()})
    return result


def piece_input() -> np.ndarray[Any, np.dtype[np.float32]]:
    return synthetic.arrays(layers=1, heads=1, tokens=SHAPE.tokens, width=SHAPE.width)[0][0, 0]


@hypothesis.settings(deadline=None, max_examples=80)
@hypothesis.given(
    seed=st.integers(0, 1 << 32),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 40)),
    scale=st.sampled_from([0.0, 1e-30, 1e-4, 1.0, 60_000.0]),
    offset=st.sampled_from([0.0, 1.0, -5_000.0]),
    bits=st.integers(1, 8),
    group=st.integers(2, 33),
)
def test_every_value_is_within_half_a_step_and_steps_follow_the_range(
    seed: int, shape: tuple[int, int], scale: float, offset: float, bits: int, group: int
) -> None:
    rng = np.random.default_rng(seed)
    # heavy tails, with a few exact zeros
    rows = (offset + scale * rng.standard_t(2, shape) * (rng.random(shape) > 0.1)).astype(np.float32)
    code = quantise_groups(rows, bits, group)
    assert int(code.symbols.max()) < 1 << bits
    steps = np.repeat(step_values(code.steps), group, axis=1)[:, : rows.shape[1]]
    errors = np.abs(dequantise_groups(code, group) - rows)
    assert (errors <= steps * 0.501 + np.abs(rows) * 1e-6).all()
    widest = rows.max() - rows.min()
    levels = (1 << bits) - 1
    assert step_values(code.steps).max() <= max(1.1 * widest / (levels - 1 / 16), np.abs(rows).max() * 2.0**-12, 1e-17)


def test_groups_run_along_tokens_in_keys_and_along_channels_in_values() -> None:
    values = piece_input()
    # one channel of keys with large magnitudes does not make its neighbours coarser, one of values does
    values[:, 3] *= 100
    others = np.arange(SHAPE.width) != 3
    by_channel = np.abs(piece_values(fit_piece(values, SHAPE)) - values)[:, others]
    by_token = np.abs(piece_values(fit_piece(values, replace(SHAPE, by_channel=False))) - values)[:, others]
    assert by_token.mean() > 5 * by_channel.mean()


def test_outliers_are_the_ends_of_each_row_and_come_back_within_a_32nd_of_a_step() -> None:
    values = piece_input()
    values[5, 2], values[6, 2] = 500, -500
    rows = values.T
    chosen, inner = find_outliers(rows, 0.02)
    assert (chosen.sum(axis=1) == 4).all()
    assert chosen[2, 5]
    assert chosen[2, 6]
    np.testing.assert_array_equal(inner[~chosen], rows[~chosen])
    piece = fit_piece(values, replace(SHAPE, rank=2))
    found = piece_values(piece).T
    steps = np.repeat(step_values(piece.code.steps), SHAPE.group, axis=1)[:, : rows.shape[1]]
    assert (np.abs(found - rows)[chosen] <= steps[chosen] / 32 * 1.01 + 1e-4).all()


def test_a_low_rank_residual_is_found_and_helps_more_the_higher_its_rank() -> None:
    rng = np.random.default_rng(3)
    exact = (rng.normal(size=(120, 3)) @ rng.normal(size=(3, 24))).astype(np.float32)
    for matrix in (exact, np.ascontiguousarray(exact.T)):
        left = matrix - low_rank_values(fit_low_rank(matrix, 3))
        assert np.square(left).sum() < 0.01 * np.square(matrix).sum()
    values = piece_input()
    errors = [np.square(piece_values(fit_piece(values, replace(SHAPE, rank=r))) - values).sum() for r in (1, 4, 8)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize(
    "settings",
    [
        {"bits": 2, "window": 16},
        {"bits": 4, "quantiser": "token", "window": 0},
        {"bits": 3, "residual": "gear", "window": 7, "sinks": 2},
        {"quantiser": "none"},
    ],
)
def test_caches_come_back_and_layers_equal_the_whole(settings: dict[str, Any], dtype: str) -> None:
    cache = synthetic.cache(tokens=90, dtype=dtype)
    data = encoded(cache, **settings)
    found = kv.decode(data)
    assert found.table == cache.table
    for wanted, decoded in zip(kv.to_arrays(cache), kv.to_arrays(found), strict=True):
        assert np.abs(wanted - decoded).mean() < 0.35 * np.abs(wanted).mean()
        window = 90 if settings.get("quantiser") == "none" else settings["window"]
        np.testing.assert_array_equal(wanted[:, :, 90 - window :], decoded[:, :, 90 - window :])
        sinks = settings.get("sinks", 0)
        np.testing.assert_array_equal(wanted[:, :, :sinks], decoded[:, :, :sinks])
    part = kv.to_arrays(kv.decode(data, layers=(1, 3)))
    for whole, some in zip(kv.to_arrays(found), part, strict=True):
        np.testing.assert_array_equal(whole[1:3], some)
    with kv.stream(_stream(data)) as layers:
        assert [piece.layer for piece in layers] == [0, 1, 2, 3]
        np.testing.assert_array_equal(kv.to_arrays(layers.cache)[0], kv.to_arrays(found)[0])


def test_more_bits_cost_more_and_err_less_and_gear_errs_less_still() -> None:
    cache = synthetic.cache(tokens=400)
    sizes, errors = [], []
    for settings in ({"bits": 2}, {"bits": 2, "residual": "gear"}, {"bits": 4}, {"bits": 4, "residual": "gear"}):
        data = encoded(cache, window=0, **settings)
        sizes.append(len(data))
        pairs = zip(kv.to_arrays(kv.decode(data)), kv.to_arrays(cache), strict=True)
        errors.append(sum(float(np.square(found - wanted).mean()) for found, wanted in pairs))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_latent_layers_windows_and_single_tokens() -> None:
    rng = np.random.default_rng(0)
    tensors = {}
    for layer, tokens in enumerate((50, 20, 50)):
        tensors[f"layers.{layer}.key"] = rng.normal(size=(2, tokens, 8)).astype(np.float16)
        tensors[f"layers.{layer}.value"] = rng.normal(size=(2, tokens, 12)).astype(np.float16)
    tensors["layers.3.latent"] = rng.normal(size=(50, 24)).astype(np.float16)
    tensors["layers.3.rope_key"] = rng.normal(size=(50, 8)).astype(np.float16)
    cache = _cache(tensors, {"sliding_window": "true"})
    found = kv.decode(encoded(cache, bits=8, window=4, residual="gear"))
    assert found.table == cache.table
    for place, tensor in cache.parts.items():
        np.testing.assert_allclose(found.parts[place].data.astype(float), tensor.data.astype(float), atol=0.02)
    keys, values = synthetic.arrays(layers=1, tokens=1)
    for window in (0, 1):
        for one in (kv.from_arrays(keys, values), kv.from_arrays(0 * keys, 0 * values)):
            decoded = kv.to_arrays(kv.decode(encoded(one, window=window, bits=8)))
            np.testing.assert_allclose(decoded[0], kv.to_arrays(one)[0], atol=0.05)


def test_values_at_the_end_of_float16_stay_finite() -> None:
    keys, values = synthetic.arrays(layers=1, tokens=40)
    keys[0, 0, 3:9] = 65_504
    found = kv.to_arrays(
        kv.decode(encoded(kv.from_arrays(keys.astype(np.float16), values.astype(np.float16)), window=0))
    )
    assert np.isfinite(found[0]).all()
    with pytest.raises(codeckit.InvalidParameter, match="kv-lossless"):
        encoded(kv.from_arrays(keys * 1e30, values), window=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantiser": "none", "residual": "gear"}, "quantiser=none loses nothing"),
        ({"bits": 9}, "bits=9"),
        ({"group": 1}, "group=1"),
        ({"rank": 0}, "rank=0"),
        ({"important_bits": 12}, "important_bits=12"),
        ({"quantiser": "kivvi"}, "kivvi"),
        ({"stages": "gear"}, "stages"),
    ],
)
def test_options_without_meaning_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(codeckit.InvalidParameter, match=message):
        encoded(synthetic.cache(tokens=10), **settings)


def test_bad_input_is_named() -> None:
    keys, values = synthetic.arrays()
    keys[1, 0, 2, 3] = np.nan
    with pytest.raises(codeckit.InvalidParameter, match=r"layer 1 key.*NaN.*token 2, channel 3"):
        encoded(kv.from_arrays(keys, values))


def test_truncated_and_damaged_files_are_refused() -> None:
    data = encoded(synthetic.cache(layers=2, tokens=40), window=8, residual="gear")
    for length in range(0, len(data), 97):
        with pytest.raises(codeckit.CodecError):
            kv.decode(data[:length])
    for place in range(0, len(data), 61):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(codeckit.CodecError):
            kv.decode(bytes(damaged))


def test_settings_of_a_wrong_type_in_a_header_are_refused() -> None:
    sound = StagesParams().as_json()
    assert StagesParams.from_json(sound) == StagesParams()
    for name, value in (
        ("important_bits", "x"),
        ("important_bits", "4"),
        ("bits", True),
        ("bits", None),
        ("group", []),
    ):
        with pytest.raises(codeckit.CorruptFile):
            StagesParams.from_json({**sound, name: value})


def _stream(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


def _cache(tensors: dict[str, Any], metadata: dict[str, str]) -> kv.Cache:
    from codeckit.codecs.kv.cache_tensors import cache_from_tensors
    from codeckit.formats.tensors import as_tensor

    return cache_from_tensors({name: as_tensor(a, name) for name, a in tensors.items()}, metadata, name="test")
