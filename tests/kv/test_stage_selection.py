"""Stages that choose tokens: what they keep, how it comes back, and what a model makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import codeckit
from codeckit import kv
from codeckit.codecs.kv.stages.ems import global_local_score, select_merged
from codeckit.codecs.kv.stages.head_profile import HeadProfile, load_head_profile, save_head_profile
from codeckit.codecs.kv.stages.head_training import retrieval_scores
from codeckit.codecs.kv.stages.mikv import balance_factors, important_tokens, key_balance
from codeckit.codecs.kv.stages.razor import retrieval_heads, select_local

from . import synthetic

LAYERS, HEADS, TOKENS, WIDTH = 3, 2, 100, 16


def encoded(cache: kv.Cache, **settings: Any) -> bytes:
    result: bytes = codeckit.encode(cache, codec="kv-stages", settings={k: str(v) for k, v in settings.items()})
    return result


def cache_with_mass(*, model: str = "") -> kv.Cache:
    keys, values = synthetic.arrays(layers=LAYERS, heads=HEADS, tokens=TOKENS, width=WIDTH)
    return kv.from_arrays(
        keys.astype(np.float16),
        values.astype(np.float16),
        rotary=synthetic.ROTARY,
        first_position=7,
        model=model,
        attention_mass=synthetic.attention_mass(LAYERS, HEADS, TOKENS),
    )


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Of a model whose only retrieval heads are the first of the first layer, by induction, and the last, by echo."""
    induction = np.zeros((LAYERS, HEADS), np.float32)
    echo = np.zeros((LAYERS, HEADS), np.float32)
    induction[0, 0] = echo[2, 1] = 0.9
    own = HeadProfile(
        model="tiny", induction=induction, echo=echo, query_peaks=np.ones((LAYERS, HEADS, WIDTH), np.float32)
    )
    path = tmp_path / "heads.safetensors"
    with path.open("wb") as file:
        save_head_profile(own, file)
    return path


def test_razor_keeps_retrieval_heads_whole_and_of_others_the_ends_and_the_mean(profile: Path) -> None:
    cache = cache_with_mass(model="tiny")
    settings = {"selection": "razor", "quantiser": "none", "local_percent": 10, "profile": profile}
    found = kv.decode(encoded(cache, **settings))
    assert found.slots is not None
    assert found.slots.next_position == 107
    wanted, decoded = kv.to_arrays(cache), kv.to_arrays(found)
    for layer in range(LAYERS):
        for head in range(HEADS):
            positions, counts = found.slots.positions[layer][head], found.slots.counts[layer][head]
            assert counts.sum() == TOKENS
            if (layer, head) in ((0, 0), (2, 1)):
                np.testing.assert_array_equal(positions, 7 + np.arange(TOKENS))
                for whole, own in zip(wanted, decoded, strict=True):
                    np.testing.assert_array_equal(whole[layer, head], own[layer, head])
                continue
            np.testing.assert_array_equal(positions[:15], 7 + np.array([0, 1, 2, 3, 89, *range(90, 100)]))
            np.testing.assert_array_equal(counts[:15], [1, 1, 1, 1, 86, *[1] * 10])
            assert not counts[15:].any()
            for whole, own in zip(wanted, decoded, strict=True):
                np.testing.assert_array_equal(own[layer, head, :4], whole[layer, head, :4])
                np.testing.assert_array_equal(own[layer, head, 5:15], whole[layer, head, 90:])
                np.testing.assert_allclose(own[layer, head, 4], whole[layer, head, 4:90].mean(axis=0), atol=2e-2)
                assert not own[layer, head, 15:].any()


def test_heads_retrieve_by_either_score() -> None:
    induction, echo = np.arange(200).reshape(20, 10) / 200, np.arange(200, 0, -1).reshape(20, 10) / 200
    chosen = retrieval_heads(induction, echo, induction_percent=14, echo_percent=1)
    assert chosen.sum() == 28 + 2
    assert chosen.ravel()[:2].all()
    assert chosen.ravel()[-28:].all()


def test_ems_keeps_its_budget_and_merges_by_score() -> None:
    cache = cache_with_mass()
    settings = {"selection": "ems", "quantiser": "none", "budget_percent": 25, "recent": 5, "similarity_percent": 0}
    found = kv.decode(encoded(cache, **settings))
    assert found.slots is not None
    assert found.table.tokens == 25
    wanted, decoded = kv.to_arrays(cache), kv.to_arrays(found)
    for layer in range(LAYERS):
        for head in range(HEADS):
            positions, counts = found.slots.positions[layer][head] - 7, found.slots.counts[layer][head]
            assert (np.diff(positions) > 0).all()
            np.testing.assert_array_equal(positions[-5:], np.arange(95, 100))
            assert counts.min() == 1
            assert 25 < counts.sum() <= 50
            alone = counts == 1
            for whole, own in zip(wanted, decoded, strict=True):
                np.testing.assert_array_equal(own[layer, head][alone], whole[layer, head][positions[alone]])
                assert (own[layer, head][~alone] != whole[layer, head][positions[~alone]]).any()


def test_ems_merges_a_token_into_its_twin_and_nothing_into_strangers() -> None:
    keys = np.eye(8, dtype=np.float32)[[0, 1, 2, 0, 5, 6]]
    values = np.arange(6, dtype=np.float32)[:, None] * np.ones((1, 8), np.float32)
    mass = np.array([8, 7, 2, 1, 0.01, 0.01], np.float32)
    own = select_merged((keys, values), mass, recent=0, budget_percent=34, similarity_percent=60)
    np.testing.assert_array_equal(own.positions, [0, 1, 2])
    np.testing.assert_array_equal(own.counts, [2, 1, 1])
    np.testing.assert_array_equal(own.parts[0], keys[[0, 1, 2]])
    score = global_local_score(mass)
    np.testing.assert_allclose(own.parts[1][0], 3 * score[3] / (score[0] + score[3]), rtol=1e-5)


def test_scores_do_not_hold_the_age_of_tokens_against_them() -> None:
    seen = np.minimum(np.arange(1000, 0, -1), 256) / 256
    score = global_local_score(seen.astype(np.float32))
    assert score.max() < 1.2 * score.min()


def test_mikv_keeps_important_tokens_finer() -> None:
    cache = cache_with_mass()
    assert cache.attention_mass is not None
    errors = {}
    for bits in (16, 8):
        settings = {"precision": "mikv", "quantiser": "token", "bits": 2, "window": 0, "important_percent": 30}
        found = kv.to_arrays(kv.decode(encoded(cache, **settings, important_bits=bits)))
        for layer in range(LAYERS):
            for head in range(HEADS):
                important = important_tokens(cache.attention_mass[layer][head], 30)
                assert important.size == 30
                for wanted, decoded in zip(kv.to_arrays(cache), found, strict=True):
                    error = np.abs(decoded[layer, head] - wanted[layer, head])
                    errors[bits] = error[important].max()
                    assert np.delete(error, important, axis=0).mean() > 20 * error[important].mean()
    assert errors[16] == 0
    assert errors[8] > 0


def test_balancers_bring_channels_of_keys_to_the_size_of_their_queries() -> None:
    keys = np.ones((5, 3), np.float32) * [1, 16, 1 / 16]
    factors = balance_factors(key_balance([keys.astype(np.float32)], None))[0]
    np.testing.assert_allclose(factors, [1, 1 / 4, 4])
    peaks = np.array([[4, 16, 1 / 16]], np.float32)
    np.testing.assert_allclose(balance_factors(key_balance([keys.astype(np.float32)], peaks))[0], [2, 1, 1])


@pytest.mark.parametrize(
    "settings",
    [
        {"selection": "ems", "quantiser": "kivi", "residual": "gear", "bits": 4, "window": 8},
        {"selection": "ems", "precision": "mikv", "quantiser": "kivi", "bits": 2, "window": 0, "important_bits": 4},
        {"selection": "razor", "precision": "mikv", "quantiser": "token", "residual": "gear", "bits": 3, "window": 4},
    ],
)
def test_stages_combine(settings: dict[str, Any], profile: Path) -> None:
    cache = cache_with_mass(model="tiny")
    found = kv.decode(encoded(cache, **settings, profile=profile))
    chosen = kv.decode(encoded(cache, selection=settings["selection"], quantiser="none", profile=profile))
    assert found.slots is not None
    assert chosen.slots is not None
    for layer in range(LAYERS):
        np.testing.assert_array_equal(found.slots.positions[layer], chosen.slots.positions[layer])
        np.testing.assert_array_equal(found.slots.counts[layer], chosen.slots.counts[layer])
    for exact, own in zip(kv.to_arrays(chosen), kv.to_arrays(found), strict=True):
        assert 0 < np.abs(exact - own).mean() < 0.4 * np.abs(exact).mean()
    some = kv.decode(encoded(cache, **settings, profile=profile), layers=(1, 2))
    assert some.slots is not None
    np.testing.assert_array_equal(some.slots.counts[0], found.slots.counts[1])


def test_what_a_stage_lacks_is_named(profile: Path, tmp_path: Path) -> None:
    keys, values = synthetic.arrays(layers=LAYERS, heads=HEADS, tokens=TOKENS, width=WIDTH)
    plain = kv.from_arrays(keys, values)
    for settings, message in (
        ({"selection": "ems"}, "selection=ems goes by attention mass"),
        ({"precision": "mikv", "quantiser": "token"}, "precision=mikv goes by attention mass"),
        ({"selection": "razor"}, "train kv-heads"),
        ({"selection": "razor", "profile": tmp_path / "absent"}, "cannot read"),
        ({"precision": "mikv", "quantiser": "none"}, "quantiser=none keeps all"),
        ({"precision": "mikv", "bits": 4, "important_bits": 4}, "no finer"),
    ):
        with pytest.raises(codeckit.InvalidParameter, match=message):
            encoded(plain, **settings)
    with pytest.raises(codeckit.InvalidParameter, match=r"'other'.*'tiny'"):
        encoded(cache_with_mass(model="other"), selection="razor", profile=profile)
    with pytest.raises(codeckit.InvalidParameter, match="3 layers of 2 heads of 16"):
        encoded(kv.from_arrays(keys[:2], values[:2]), selection="razor", profile=profile)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(profile.read_bytes()[:-1])
    with pytest.raises(codeckit.CodecError):
        load_head_profile(damaged)


def test_chosen_tokens_are_not_taken_for_a_whole_cache() -> None:
    found = kv.decode(encoded(cache_with_mass(), selection="ems", quantiser="none"))
    tensors, metadata = found.named_tensors()
    assert tensors["layers.1.positions"].shape == tensors["layers.1.counts"].shape == (HEADS, 33)
    assert metadata["next_position"] == "107"
    with pytest.raises(codeckit.UnsupportedInput, match="chosen tokens"):
        codeckit.encode(found, codec="kv-lossless")
    with pytest.raises(codeckit.InvalidParameter, match="slot_attention"):
        found.require_all_tokens("a test")


def test_an_induction_head_and_an_echo_head_are_told_apart() -> None:
    import torch

    period, repeats = 8, 3
    total = period * repeats
    attention = torch.zeros(1, 4, total, total)
    for query in range(period, total):
        attention[0, 1, query, query - period + 1] = 1  # the token after the same token
        attention[0, 2, query, query - period] = 1  # the same token
        attention[0, 3, query, query] = 1

    class Model:
        config = SimpleNamespace(_attn_implementation="eager", num_key_value_heads=4)

        def set_attn_implementation(self, name: str) -> None:
            assert name == "eager"

        def __call__(self, ids: Any, **_: Any) -> Any:
            assert ids.shape == (1, total)
            return SimpleNamespace(attentions=[attention])

    induction, echo = retrieval_scores(Model(), np.arange(period), repeats)[:, 0]
    np.testing.assert_allclose(induction, [0, 1, 0, 0], atol=0.01)
    np.testing.assert_allclose(echo, [0, 0, 1, 0], atol=0.01)


CONTEXT, FURTHER = 12, 5


@pytest.fixture(scope="module")
def model() -> Any:
    """A random Llama of two layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def cache(model: Any) -> kv.Cache:
    import torch

    with torch.no_grad():
        filled = model(torch.arange(CONTEXT)[None], use_cache=True).past_key_values
    return kv.from_transformers(filled, model=model)


def logits(model: Any, cache: kv.Cache) -> Any:
    import torch

    with torch.no_grad():
        past = kv.to_transformers(cache, model)
        first = model(torch.arange(20, 20 + FURTHER)[None], past_key_values=past, use_cache=True).logits
        second = model(torch.tensor([[3]]), past_key_values=past, use_cache=True).logits
    return torch.cat([first, second], dim=1).numpy()


def chosen(cache: kv.Cache, counts: np.ndarray[Any, Any]) -> kv.Cache:
    """The cache with those counts [heads, tokens] in every layer; what has a count of 0 is overwritten."""
    slots = kv.CacheSlots(
        positions=(np.tile(np.arange(CONTEXT, dtype=np.int32), (2, 1)),) * 2,
        counts=(counts.astype(np.int32),) * 2,
        next_position=CONTEXT,
    )
    parts = {}
    for place, tensor in cache.parts.items():
        data = tensor.data.copy()
        data[counts == 0] = 9
        parts[place] = replace(tensor, data=data)
    return replace(cache, parts=parts, slots=slots)


def test_all_tokens_give_what_the_model_gives(model: Any, cache: kv.Cache) -> None:
    whole = chosen(cache, np.ones((2, CONTEXT)))
    expected = logits(model, cache)
    assert whole.slots is not None
    with kv.slot_attention(model, whole.slots):
        np.testing.assert_allclose(logits(model, whole), expected, atol=1e-4)
    np.testing.assert_allclose(logits(model, cache), expected, atol=1e-6)


def test_a_slot_of_three_tokens_counts_as_three_equal_tokens(model: Any, cache: kv.Cache) -> None:
    parts = {}
    for place, tensor in cache.parts.items():
        data = tensor.data.copy()
        data[0, 4:6] = data[0, 3]  # of head 0 tokens 3 to 5 are equal
        parts[place] = replace(tensor, data=data)
    equal = replace(cache, parts=parts)
    counts = np.ones((2, CONTEXT))
    counts[0, 3:6] = 3, 0, 0
    merged = chosen(equal, counts)
    assert merged.slots is not None
    with kv.slot_attention(model, merged.slots):
        found = logits(model, merged)
    np.testing.assert_allclose(found, logits(model, equal), atol=1e-4)
    assert np.abs(found - logits(model, cache)).max() > 1e-3


def test_compacted_slots_give_what_holes_give(model: Any, cache: kv.Cache) -> None:
    counts = np.ones((2, CONTEXT))
    counts[:, [1, 4, 7]] = 0
    counts[1, 9] = 0
    holes = chosen(cache, counts)
    order = np.argsort(counts == 0, axis=1, kind="stable")[:, :9]
    assert holes.slots is not None
    slots = kv.CacheSlots(
        positions=tuple(np.take_along_axis(own, order, 1) for own in holes.slots.positions),
        counts=tuple(np.take_along_axis(own, order, 1) for own in holes.slots.counts),
        next_position=CONTEXT,
    )
    parts = {
        place: replace(tensor, data=np.take_along_axis(tensor.data, order[:, :, None], 1))
        for place, tensor in holes.parts.items()
    }
    compact = replace(cache, table=replace(cache.table, tokens=9), parts=parts, slots=slots)
    with kv.slot_attention(model, holes.slots):
        expected = logits(model, holes)
    with kv.slot_attention(model, slots):
        np.testing.assert_allclose(logits(model, compact), expected, atol=1e-4)


def test_another_model_or_cache_is_refused(model: Any, cache: kv.Cache) -> None:
    whole = chosen(cache, np.ones((2, CONTEXT)))
    assert whole.slots is not None
    with (
        pytest.raises(codeckit.InvalidParameter, match="2 layers"),
        kv.slot_attention(
            model, replace(whole.slots, positions=whole.slots.positions[:1], counts=whole.slots.counts[:1])
        ),
    ):
        pass
    with pytest.raises(codeckit.InvalidParameter, match="its slots are"), kv.slot_attention(model, whole.slots):
        import torch

        model(torch.tensor([[1, 2]]), use_cache=True)


def test_select_local_without_room_to_drop_keeps_all() -> None:
    parts = tuple(synthetic.arrays(layers=1, heads=1, tokens=6)[n][0, 0] for n in range(2))
    own = select_local(parts, None, sinks=4, local_percent=20)
    np.testing.assert_array_equal(own.counts, np.ones(6))
