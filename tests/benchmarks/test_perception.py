"""Perception models: read from their files, right about real pictures, and skipped with a reason when not to be had."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from codeckit.benchmarks.cells import make_plan
from codeckit.benchmarks.classification import central_square, quantised_network
from codeckit.benchmarks.data_sets import list_items
from codeckit.benchmarks.items import Sound, load_item
from codeckit.benchmarks.scorers import find_scorer
from codeckit.benchmarks.segmentation import mean_intersection_over_union
from codeckit.benchmarks.speech_recognition import agreement
from codeckit.benchmarks.sweep import parse_sweep
from codeckit.benchmarks.sweep_run import require_everything
from codeckit.benchmarks.tflite_file import read_tflite
from codeckit.benchmarks.weights import read_weights, weights_path
from codeckit.formats.errors import CorruptFile, ExternalFailure, InvalidParameter, UnsupportedInput

from .conftest import SWEEP, SweepHelper


@pytest.fixture(autouse=True)
def _needs_data(data_folder: Path) -> None:
    weights_path.cache_clear()
    quantised_network.cache_clear()


def test_a_shipped_network_knows_most_photographs():
    task = find_scorer("mobilenet-v1-0.75")
    right = 0.0
    for item in list_items("imagenet-eval", limit=20):
        picture = load_item(item)
        right += task.score(item, picture, picture).value
    assert right >= 13


def test_heavy_distortion_moves_features_more_than_light():
    item = list_items("kodak", limit=1)[0]
    picture = load_item(item)
    noise = np.random.default_rng(0).normal(0, 1, picture.shape)
    light, heavy = (np.clip(picture + sigma * noise, 0, 255).astype(np.uint8) for sigma in (2, 60))
    distance = find_scorer("feature_distance")
    assert distance.score(item, picture, picture).value == 0
    assert 0 < distance.score(item, picture, light).value < distance.score(item, picture, heavy).value


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason="the reference runtime is not installed")
def test_classes_are_those_of_the_reference_runtime():
    from ai_edge_litert.interpreter import Interpreter

    for name in ("mobilenet-v1-0.25", "mobilenet-v2"):
        reference = Interpreter(str(weights_path(name)))
        reference.allocate_tensors()
        for item in list_items("imagenet-eval", limit=6):
            picture = central_square(load_item(item), quantised_network(name).input_size[0])
            reference.set_tensor(reference.get_input_details()[0]["index"], picture[None])
            reference.invoke()
            expected = reference.get_tensor(reference.get_output_details()[0]["index"])[0]
            predicted = int(quantised_network(name).run(picture)[0].argmax())
            assert expected[predicted] == expected.max()  # its probabilities have 256 levels, so several may be largest


def test_damaged_networks_are_refused():
    data = read_weights("mobilenet-v1-0.25")
    for damaged in (b"", data[:100], b"\0" * 64, data[:20] + b"\xff" * 40 + data[60:]):
        with pytest.raises((CorruptFile, UnsupportedInput)):
            read_tflite(damaged)


def test_weights_with_another_hash_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mobilenet_v1_0.25_128_quant.tflite").write_bytes(b"something else")
    monkeypatch.setenv("CODECKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(ExternalFailure, match="has the hash"):
        read_weights("mobilenet-v1-0.25")


def test_what_cannot_be_had_is_skipped_with_its_reason_or_fatal_when_required(
    waves: SweepHelper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("CODECKIT_WEIGHTS", raising=False)
    text = SWEEP.replace('metrics = ["psnr_db"]', 'metrics = ["psnr_db"]\ntasks = ["spoken-digits"]')
    plan = make_plan(parse_sweep(text, base=waves.folder))
    assert [(skip.what, skip.name) for skip in plan.skips] == [("scorer", "spoken-digits")]
    with pytest.raises(ExternalFailure, match="weights not trained yet"):
        require_everything(plan)
    waves.run(text=text)
    assert [row[:2] for row in waves.results().skips] == [("scorer", "spoken-digits")]


def test_torchvision_models_that_do_not_exist_name_the_nearest():
    with pytest.raises(InvalidParameter, match="did you mean 'resnet50'"):
        find_scorer("torchvision:resnet5")


def test_segmentation_moves_more_the_more_a_picture_is_damaged():
    item = next(one for one in list_items("imagenet-eval") if "garter_snake" in one.name)
    picture = load_item(item)
    task = find_scorer("deeplab-v3")
    noise = np.random.default_rng(0).normal(0, 1, picture.shape)
    light, heavy = (np.clip(picture + sigma * noise, 0, 255).astype(np.uint8) for sigma in (4, 90))
    scores = [task.score(item, picture, decoded).value for decoded in (picture, light, heavy)]
    assert scores[0] == 1.0
    assert scores[0] > scores[1] > scores[2]


def test_intersection_over_union_is_the_mean_over_the_classes_of_both_maps():
    one = np.array([[0, 0, 1, 1]], np.uint8)
    two = np.array([[0, 2, 1, 1]], np.uint8)
    assert mean_intersection_over_union(one, two) == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert mean_intersection_over_union(two, two) == 1.0


def test_letters_agree_by_their_edits():
    assert agreement("NINE", "NINE") == 1.0
    assert agreement("NINE", "FINE") == 0.75
    assert agreement("NO", "SOMETHING ELSE") == 0.0
    assert (agreement("", ""), agreement("", "A")) == (1.0, 0.0)


@pytest.mark.parametrize("name", ["lpips", "dists", "wav2vec2", "hdemucs", "tesseract"])
def test_models_that_must_be_downloaded_are_there_or_say_why_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    def no_network(*arguments: object, **options: object) -> None:
        raise URLError("no network in this test")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(ExternalFailure, match=r"weights unobtainable.*no network|tesseract is not installed"):
        find_scorer(name).version()


def test_speech_and_sources_are_judged_by_what_a_model_makes_of_them(monkeypatch: pytest.MonkeyPatch):
    """Stand-ins for the downloaded networks: one hears the sign of each second, one separates by halves."""
    import torch

    item = list_items("spoken-digits", limit=1)[0]
    loud = np.ones((8000, 1), np.float32) * 0.5
    quiet = np.concatenate([loud[:4000], -loud[4000:]])

    def hear(signal: torch.Tensor) -> tuple[torch.Tensor, None]:
        signs = signal[:, 800::1600].sign()  # ten frames
        return torch.stack([torch.zeros_like(signs), signs, -signs], dim=2), None

    monkeypatch.setattr("codeckit.benchmarks.speech_recognition.load_wav2vec2", lambda: (hear, ("-", "A", "B")))
    task = find_scorer("wav2vec2")
    assert task.score(item, Sound(loud, 8000), Sound(loud, 8000)).value == 1.0
    changed = task.score(item, Sound(loud, 8000), Sound(quiet, 8000))
    assert changed.detail == {"heard": "AB"}
    assert changed.value == 0.0

    def separate(signal: torch.Tensor) -> torch.Tensor:
        return torch.stack([0.5 * signal, 0.5 * signal], dim=1)

    monkeypatch.setattr("codeckit.benchmarks.source_separation.load_demucs", lambda: (separate, 8000))
    music = np.random.default_rng(0).normal(0, 0.2, (4000, 1)).astype(np.float32)
    task = find_scorer("hdemucs")
    assert task.score(item, Sound(music, 8000), Sound(music, 8000)).value == 100.0
    assert task.score(item, Sound(music, 8000), Sound(0.9 * music, 8000)).value == pytest.approx(20, abs=0.1)
