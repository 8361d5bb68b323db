"""The ``cachegen`` codec: both variants decode to what their quantisers say, ranges and tables included."""

from __future__ import annotations

import numpy as np
import pytest

import codeckit
from codeckit import kv
from codeckit.codecs.kv.cachegen_profiles import PROFILE_FOLDER
from codeckit.codecs.kv.cachegen_quantiser import dequantise_deltas, quantise_deltas

from . import synthetic

PAPER = {"variant": "paper", "level": "100"}
PUBLISHED = {"variant": "published-code", "bins": "3"}


@pytest.mark.parametrize("tokens", [1, 9, 10, 11, 37])
def test_deltas_stay_within_half_a_bin_and_anchors_within_half_of_an_eighth_bit(tokens: int) -> None:
    values = synthetic.arrays(layers=1, heads=1, tokens=tokens)[0][0, 0]
    anchors, deltas, peaks = quantise_deltas(values, 0.25)
    restored = np.empty((1, *values.shape), np.float32)
    dequantise_deltas(anchors, deltas, peaks, 0.25, restored)
    errors = np.abs(restored[0] - values)
    assert anchors.shape[0] == -(-tokens // 10)
    assert np.abs(anchors).max() <= 127
    assert (errors[::10] <= peaks[:, None] / 127 / 2 + 1e-6).all()
    assert errors.max() <= max(0.125, float(peaks.max()) / 254) + 1e-6


@pytest.mark.parametrize("settings", [PAPER, PUBLISHED])
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_caches_come_back_and_ranges_equal_the_whole(settings: dict[str, str], dtype: str) -> None:
    cache = synthetic.cache(tokens=120, dtype=dtype)
    data = codeckit.encode(cache, codec="cachegen", settings={**settings, "chunk_tokens": "40"})
    found = kv.decode(data)
    assert found.table == cache.table
    for wanted, decoded in zip(kv.to_arrays(cache), kv.to_arrays(found), strict=True):
        assert np.abs(wanted - decoded).mean() < 0.15 * np.abs(wanted).mean()
    part = kv.to_arrays(kv.decode(data, layers=(1, 3), tokens=(35, 90)))
    for whole, some in zip(kv.to_arrays(found), part, strict=True):
        np.testing.assert_array_equal(whole[1:3, :, 35:90], some)


def test_a_finer_level_costs_more_and_errs_less() -> None:
    cache = synthetic.cache(tokens=400)
    sizes, errors = [], []
    for level in ("150", "300", "500"):
        data = codeckit.encode(cache, codec="cachegen", settings={"level": level})
        sizes.append(len(data))
        errors.append(float(np.abs(kv.to_arrays(kv.decode(data))[1] - kv.to_arrays(cache)[1]).mean()))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


@pytest.mark.parametrize("settings", [PAPER, PUBLISHED])
def test_zero_tokens_and_single_tokens(settings: dict[str, str]) -> None:
    keys, values = synthetic.arrays(layers=1, tokens=1)
    for cache in (kv.from_arrays(keys, values), kv.from_arrays(0 * keys, 0 * values)):
        found = kv.to_arrays(kv.decode(codeckit.encode(cache, codec="cachegen", settings=settings)))
        assert np.abs(found[0] - kv.to_arrays(cache)[0]).max() <= np.abs(keys).max() / 8


def test_bad_input_is_named() -> None:
    keys, values = synthetic.arrays()
    keys[1, 0, 2, 3] = np.inf
    with pytest.raises(codeckit.InvalidParameter, match=r"layer 1 key.*infinity"):
        codeckit.encode(kv.from_arrays(keys, values), codec="cachegen")
    with pytest.raises(codeckit.InvalidParameter, match="takes no profile"):
        codeckit.encode(synthetic.cache(), codec="cachegen", settings={**PUBLISHED, "profile": "some.safetensors"})
    data = codeckit.encode(synthetic.cache(tokens=30), codec="cachegen")
    for length in range(0, len(data), 211):
        with pytest.raises(codeckit.CodecError):
            kv.decode(data[:length])


def test_the_shipped_profile_is_found_and_another_model_is_refused() -> None:
    shape = {"layers": 30, "heads": 3, "width": 64, "tokens": 60}
    cache = synthetic.cache(model="smollm2-135m", rotary=None, **shape)
    data = codeckit.encode(cache, codec="cachegen")
    assert codeckit.info(data).description["profile"] != "none"
    assert kv.decode(data).table == cache.table
    # no tables are shipped for this level, so the file holds its own
    other = codeckit.encode(cache, codec="cachegen", settings={"level": "400"})
    assert codeckit.info(other).description["profile"] == "none"
    path = str(PROFILE_FOLDER / "smollm2-135m.safetensors")
    wrong = synthetic.cache(model="another-model", **shape)
    with pytest.raises(codeckit.InvalidParameter, match=r"another-model.*smollm2-135m"):
        codeckit.encode(wrong, codec="cachegen", settings={"profile": path})
    with pytest.raises(codeckit.InvalidParameter, match="levels 150, 300, 500"):
        codeckit.encode(cache, codec="cachegen", settings={"profile": path, "level": "400"})
    with pytest.raises(codeckit.InvalidParameter, match="other layers"):
        codeckit.encode(synthetic.cache(model="smollm2-135m"), codec="cachegen", settings={"profile": path})


def test_keys_after_rope_cannot_be_moved() -> None:
    data = codeckit.encode(synthetic.cache(tokens=30), codec="cachegen")
    with pytest.raises(codeckit.InvalidParameter, match="cannot be moved"):
        kv.decode(data, positions=range(30))
