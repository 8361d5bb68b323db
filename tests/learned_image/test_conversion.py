"""Converted weights do what CompressAI's own network does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import codeckit
from codeckit import CodecError, CorruptFile, InvalidParameter, NumericProfileMismatch, UnsupportedInput
from codeckit.codecs.learned_image.conversion import convert_checkpoint, convert_model
from codeckit.codecs.learned_image.exact_synthesis import ExactSynthesis, scale_thresholds
from codeckit.codecs.learned_image.gained_network import GainedNetwork
from codeckit.codecs.learned_image.model_file import FRACTION_BITS, load_model, packaged_model_path, save_model
from codeckit.codecs.learned_image.picture_coding import LatentReader
from codeckit.codecs.learned_image.training import _restore, train
from codeckit.codecs.protocol import Selection
from codeckit.codecs.run_context import RunContext
from codeckit.formats.limits import Limits
from codeckit.formats.reader import ContainerReader
from codeckit.formats.safetensors_file import read_safetensors

from .conftest import random_network, smooth_picture


def own_latents(architecture, model, picture):
    """Latents and picture of CompressAI's forward pass, edges repeated to what the network can take."""
    height, width, _ = picture.shape
    multiple = 16 if architecture == "factorized" else 64
    padded = np.pad(picture, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
    tensor = torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32)) / 255
    with torch.no_grad():
        latents = model.g_a(tensor)
        rebuilt = model(tensor)["x_hat"]
        if architecture == "factorized":
            rounded = model.entropy_bottleneck(latents)[0]
        elif architecture == "hyperprior":
            rounded = latents.round()
        else:
            side, _ = model.entropy_bottleneck(model.h_a(latents))
            means = model.h_s(side).chunk(2, 1)[1]
            rounded = (latents - means).round() + means
    pixels = (rebuilt[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return rounded[0].numpy(), pixels[:height, :width]


def test_latents_and_pictures_are_those_of_compressai(converted):
    architecture, model, path = converted
    picture = smooth_picture(150, 200)
    data = codeckit.encode(picture, codec="compressai", settings={"weights": str(path)})
    decoded = codeckit.decode(data, selection=Selection(settings={"weights": str(path)}))
    latents, pixels = own_latents(architecture, model, picture)
    ours = LatentReader(ContainerReader(data), RunContext(), str(path)).latents()
    assert ours.shape == latents.shape
    assert np.abs(latents).max() > 3
    # values within a hair of the middle between two integers may go either way
    assert (np.abs(ours - latents) > 2**-8).mean() < 0.003
    assert np.abs(decoded.astype(int) - pixels).max() <= 4
    assert (decoded != pixels).mean() < 0.02


def test_the_integer_hyper_synthesis_is_close_to_the_float_one(converted):
    architecture, model, path = converted
    if architecture == "factorized":
        return
    symbols = np.random.default_rng(1).integers(-6, 7, (12, 6, 5)).astype(np.int16)
    numbers, means = ExactSynthesis.of(load_model(path))(symbols)
    medians = model.entropy_bottleneck._get_medians().detach()
    with torch.no_grad():
        outputs = model.h_s((torch.from_numpy(symbols.astype(np.float32)) + medians)[None])[0].numpy()
    scales = outputs[:16]
    expected = np.searchsorted(scale_thresholds() / (1 << FRACTION_BITS), scales, side="right")
    assert numbers.max() > 20
    assert (np.abs(numbers - expected.astype(int)) > 1).sum() == 0
    assert (numbers != expected).mean() < 0.02
    if means is not None:
        assert np.abs(means / (1 << FRACTION_BITS) - outputs[16:]).max() < 0.01


def test_tables_and_symbols_do_not_depend_on_threads_or_windows(converted):
    architecture, _, path = converted
    if architecture == "factorized":
        return
    synthesis = ExactSynthesis.of(load_model(path))
    symbols = np.random.default_rng(2).integers(-40, 41, (12, 11, 14)).astype(np.int16)
    numbers, _ = synthesis(symbols)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            part, _ = synthesis(symbols[:, 2:10, 3:14])
            # two side symbols around a window decide nothing but their own latents
            assert (part[:, 8:-8, 8:] == numbers[:, 16:32, 20:]).all()
    finally:
        torch.set_num_threads(before)


def test_the_frequencies_are_compressai_s_probabilities(converted):
    _, model, path = converted
    tables = load_model(path).prior_tables
    bottleneck = model.entropy_bottleneck
    values = torch.arange(-2, 3).float()[None, None, :].repeat(len(tables), 1, 1)
    medians = torch.from_numpy(load_model(path).tensors["prior.medians"].astype(np.float32)) / (1 << FRACTION_BITS)
    with torch.no_grad():
        likelihood = bottleneck._likelihood(values + medians[:, None, None])[0][:, 0].numpy()
    for table, expected in zip(tables, likelihood, strict=True):
        found = table.frequencies[np.arange(-2, 3) - table.minimum] / 2**24
        assert np.abs(found - expected).max() < 1e-5


def test_a_checkpoint_is_converted_without_running_it(tmp_path, converted):
    architecture, model, path = converted
    model.update(force=True)  # as published checkpoints are
    torch.save({"state_dict": model.state_dict()}, tmp_path / "checkpoint.pth.tar")
    settings = {"convert": str(tmp_path / "checkpoint.pth.tar"), "architecture": architecture}
    train([], tmp_path / "out.safetensors", settings, RunContext())
    again, first = load_model(tmp_path / "out.safetensors"), load_model(path)
    assert all((again.tensors[name] == value).all() for name, value in first.tensors.items())

    class Bomb:
        def __reduce__(self):
            return (print, ("executed",))

    (tmp_path / "bomb").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    with pytest.raises(CorruptFile):
        convert_checkpoint(tmp_path / "bomb", architecture, tmp_path / "never.safetensors")
    assert not (tmp_path / "never.safetensors").exists()


def test_other_networks_are_refused(tmp_path):
    with pytest.raises(UnsupportedInput, match="Linear"):
        convert_model(torch.nn.Linear(2, 2), tmp_path / "x.safetensors", {})


def test_a_file_of_own_weights_needs_them(converted, tmp_path):
    _, _, path = converted
    data = codeckit.encode(smooth_picture(40, 50), codec="compressai", settings={"weights": str(path)})
    with pytest.raises(InvalidParameter, match="weights=FILE"):
        codeckit.decode(data)
    other = tmp_path / "other.safetensors"
    convert_model(random_network("factorized"), other, {"of": "another"})
    with pytest.raises(NumericProfileMismatch):
        codeckit.decode(data, selection=Selection(settings={"weights": str(other)}))
    with pytest.raises(InvalidParameter, match="one rate"):
        codeckit.encode(smooth_picture(8, 8), codec="compressai", settings={"weights": str(path), "quality": 3})


def test_damaged_weights_are_refused(converted, tmp_path):
    _, _, path = converted
    content = path.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for broken in (content[:-10], content.replace(b"codeckit-compressai-1", b"codeckit-compressai-9"), b"", b"{}" * 9):
        damaged.write_bytes(broken)
        with pytest.raises(CodecError):
            codeckit.encode(smooth_picture(8, 8), codec="compressai", settings={"weights": str(damaged)})


def changed_weights(path, target, name, change):
    """A copy of the package's weights with one tensor changed, or left out."""
    found, metadata = read_safetensors(path.read_bytes(), name="weights", limits=Limits())
    tensors = {key: tensor.data for key, tensor in found.items()}
    changed = change(tensors.pop(name))
    if changed is not None:
        tensors[name] = changed
    save_model(metadata["architecture"], tensors, target, {})
    return target


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("g_a.0.bias", lambda old: None),
        ("g_a.0.bias", lambda old: old[:3]),
        ("h_a.0.weight", lambda old: None),
        ("h_a.4.weight", lambda old: old[:9]),
        ("h_s.0.weight", lambda old: np.zeros((48, 48, 40, 40), np.int16)),
        ("h_s.0.weight", lambda old: old.astype(np.float32)),
        ("h_s.0.weight", lambda old: np.where(old == old.max(), 2**62, old.astype(np.int64))),
        ("h_s.0.bias", lambda old: old[:5]),
        ("h_s.0.shift", lambda old: np.full(1, np.nan, np.float32)),
        ("h_s.0.shift", lambda old: old[None]),
        ("prior.medians", lambda old: old[0]),
        ("prior.medians", lambda old: old[None]),
        ("prior.minima", lambda old: np.full(old.shape, np.inf, np.float32)),
        ("prior.slots", lambda old: old.astype(np.float32)),
        ("g_s.0.weight", lambda old: np.full(old.shape, np.nan, np.float32)),
        ("gains", lambda old: -old),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(tmp_path, name, change):
    path = changed_weights(packaged_model_path(), tmp_path / "changed.safetensors", name, change)
    with pytest.raises(CorruptFile):
        load_model(path)


def test_weights_that_have_changed_are_read_again(converted, tmp_path):
    _, _, path = converted
    own = tmp_path / "own.safetensors"
    own.write_bytes(path.read_bytes())
    first = load_model(own)
    changed_weights(path, own, "gains", lambda old: old * 2)
    assert load_model(own).sha256 != first.sha256


def test_a_start_that_is_no_checkpoint_is_named(tmp_path):
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"junk")
    network = GainedNetwork(random_network("hyperprior"), (0.01, 0.02))
    for initial in (junk, tmp_path / "missing", packaged_model_path()):
        with pytest.raises(InvalidParameter, match="initial="):
            _restore(network, initial)
