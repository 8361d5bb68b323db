"""Training starts from a working transform and leaves weights that make files."""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image

import codeckit
from codeckit.codecs.learned_image.component_start import start_from_components
from codeckit.codecs.learned_image.gained_network import first_gain
from codeckit.codecs.learned_image.training import train
from codeckit.codecs.protocol import Selection
from codeckit.codecs.run_context import RunContext

from .conftest import random_network, smooth_picture


def test_training_leaves_weights_that_make_files(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(smooth_picture(140, 150 + number)).save(folder / f"{number}.png")
    weights = tmp_path / "weights.safetensors"
    settings = {"seconds": "1", "channels": "8", "latent_channels": "12", "batch": "2", "lambdas": "0.005,0.05"}
    figures = train([folder], weights, settings, RunContext(threads=1))
    assert figures["steps"] > 0
    log = [json.loads(line) for line in weights.with_suffix(".log.jsonl").read_text().splitlines()]
    assert log[0]["lambdas"] == "0.005,0.05"
    sizes = []
    for quality in (0, 100):
        encoded = {"weights": str(weights), "quality": quality}
        data = codeckit.encode(smooth_picture(64, 90), codec="compressai", settings=encoded)
        picture = codeckit.decode(data, selection=Selection(settings={"weights": str(weights)}))
        assert picture.shape == (64, 90, 3)
        sizes.append(len(data))
    assert sizes[1] > sizes[0]


def test_principal_components_are_a_working_transform():
    crops = torch.from_numpy(np.stack([smooth_picture(64, 64).transpose(2, 0, 1)] * 4)).float() / 255
    model = random_network("hyperprior")
    start_from_components(model, crops, first_gain(0.01))
    with torch.no_grad():
        error = (model.g_s(model.g_a(crops)) - crops).square().mean()
    assert -10 * error.log10() > 18
    # with all components, and normalisations made linear, nothing is lost
    from compressai.models import FactorizedPrior

    whole = FactorizedPrior(192, 768)
    start_from_components(whole, crops[:1], 1.0)
    for layer in (*whole.g_a, *whole.g_s):
        if hasattr(layer, "gamma"):
            layer.gamma.data.zero_()
    with torch.no_grad():
        error = (whole.g_s(whole.g_a(crops[:1])) - crops[:1]).square().mean()
    assert error < 1e-6
