"""NeRV++: the published network and one of sensible width, whose integers come back exactly from a real file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import codeckit
from codeckit import CancellationToken, Progress, RunContext, Selection
from codeckit.codecs.video.frame_decoder import parameter_shapes
from codeckit.codecs.video.nervpp_encoding import NeRVPlusPlusFit
from codeckit.codecs.video.nervpp_network import Decoder, SeparableResidualBlock, UpsamplingStage, time_encodings
from codeckit.codecs.video.nervpp_parameters import PRESETS, NeRVPlusPlusParameters
from codeckit.codecs.video.nervpp_structure import NeRVPlusPlusStructure, Stage
from codeckit.codecs.video.network_file import NetworkHeader, read_content
from codeckit.codecs.video.similarity import absolute_and_structural, ssim
from codeckit.formats.errors import CorruptFile, InvalidParameter
from codeckit.formats.reader import ContainerReader

GOLDEN = Path(__file__).parent / "golden"
TAPERED: dict[str, Any] = {"strides": "4,2", "model_size": 0.02, "epochs": 30, "lr": 1e-2, "encoder_width": 8}
PAPER: dict[str, Any] = {"variant": "paper", "strides": "8", "model_size": 0.1, "epochs": 60, "lr": 5e-3}


@pytest.fixture(scope="module", params=["tapered", "paper"])
def encoded(
    request: pytest.FixtureRequest, moving_clip: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, codeckit.EncodeReport]:
    """The moving clip as a file of either variant, and the report of its encoding."""
    path = tmp_path_factory.mktemp("nervpp") / "clip.ck"
    settings = TAPERED if request.param == "tapered" else PAPER
    return path, codeckit.encode(moving_clip, path, codec="nerv++", settings=settings)


def structure(**settings: Any) -> NeRVPlusPlusStructure:
    return NeRVPlusPlusFit(NeRVPlusPlusParameters(**settings)).structure(frames=4, height=40, width=80)


def published(preset: str) -> NeRVPlusPlusStructure:
    return NeRVPlusPlusFit(NeRVPlusPlusParameters(**PRESETS[preset])).structure(frames=132, height=720, width=1280)


def test_the_paper_s_variant_has_the_published_widths() -> None:
    assert published("paper-xs").widths == (8, 8, 80, 80, 80, 80)
    assert published("paper-s").widths == (26, 26, 80, 80, 80, 80)
    network = published("paper-xs")
    assert (network.rows, network.columns, network.strides) == (9, 16, (5, 2, 2, 2, 2))
    assert set(network.kernels) == {3}
    assert network.embedding_shape is None


def test_tapered_networks_shrink_towards_full_resolution_and_stay_within_the_model_size() -> None:
    for model_size in (0.03, 0.1, 0.5):
        network = structure(model_size=model_size, lower_width=6, strides="5,2,2")
        assert list(network.widths) == sorted(network.widths, reverse=True)
        assert network.decoder_parameters + 4 * 16 * network.rows * network.columns <= model_size * 1e6
    with pytest.raises(InvalidParameter, match="too small"):
        structure(model_size=0.001)


@pytest.mark.parametrize(
    "settings",
    [{"model_size": 0.05, "strides": "5,2"}, {"variant": "paper", "model_size": 1.0, "strides": "5,2,2"}],
    ids=["tapered", "paper"],
)
def test_the_structure_counts_parameters_and_multiplications_as_torch_does(settings: dict[str, Any]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = structure(**settings)
    decoder = Decoder(network)
    assert sum(value.numel() for value in decoder.parameters()) == network.decoder_parameters
    assert len(parameter_shapes(network)) == len(list(decoder.parameters()))
    embeddings = torch.rand(4, *(network.embedding_shape or (0,)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pictures = decoder(decoder.inputs(4, embeddings)[:1])
    assert pictures.shape == (1, 3, *network.picture)
    assert counter.get_total_flops() == 2 * network.macs_per_frame


def test_a_stage_is_two_residual_blocks_around_the_upsampling_beside_a_bilinear_skip() -> None:
    stage = UpsamplingStage(Stage(before=3, width=4, stride=2, kernel=3), expansion=2)
    x = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        # a block that projects to nothing is the identity, and an upsampling without weights adds nothing
        for block in (stage.before, stage.after):
            block.project.weight.zero_()
            block.project.bias.zero_()
        stage.upsample.weight.zero_()
        stage.upsample.bias.zero_()
        expected = torch.nn.functional.interpolate(stage.project(x), scale_factor=2, mode="bilinear")
        assert torch.allclose(stage(x), expected)
    block = SeparableResidualBlock(4, 3)
    assert block.depthwise.groups == 4
    assert (block.expand.out_channels, block.project.out_channels) == (12, 4)


def test_times_are_encoded_as_nerv_does() -> None:
    encodings = time_encodings(8)
    assert encodings.shape == (8, 80, 1, 1)
    assert np.allclose(encodings[3, 7, 0, 0], np.sin(1.25**7 * np.pi * 3 / 8), atol=1e-6)
    assert np.allclose(encodings[3, 47, 0, 0], np.cos(1.25**7 * np.pi * 3 / 8), atol=1e-6)


def test_ssim_is_the_reference_implementation_s() -> None:
    from pytorch_msssim import ssim as reference

    torch.manual_seed(0)
    one = torch.rand(2, 3, 20, 33)
    two = (one + 0.2 * torch.rand_like(one)).clamp(0, 1)
    assert torch.allclose(ssim(one, two), reference(one, two, data_range=1.0), atol=1e-5)
    assert float(absolute_and_structural(one, one)) == pytest.approx(0, abs=1e-6)
    expected = 0.7 * (one - two).abs().mean() + 0.3 * (1 - reference(one, two, data_range=1.0))
    assert torch.allclose(absolute_and_structural(one, two), expected, atol=1e-5)
    assert float(ssim(one[:, :, :5, :7], one[:, :, :5, :7])) == pytest.approx(1)


def test_the_report_is_true_of_the_file(
    encoded: tuple[Path, codeckit.EncodeReport], moving_clip: NDArray[np.uint8]
) -> None:
    path, report = encoded
    decoded = codeckit.decode(path)
    assert decoded.shape == moving_clip.shape
    errors = ((decoded.astype(np.float64) - moving_clip) ** 2).mean(axis=(1, 2, 3))
    assert np.mean(10 * np.log10(65025 / errors)) == pytest.approx(report.figures["psnr_db"], abs=1e-9)
    assert report.figures["psnr_db"] > 18
    assert report.figures["bpp"] == 8 * path.stat().st_size / (6 * 24 * 40)
    paper = report.figures["embeddings_bytes"] == 0
    with ContainerReader(path) as reader:
        assert {chunk.type for chunk in reader.chunks()} == ({"WGTS"} if paper else {"WGTS", "EMBD"})


def test_a_selection_is_exactly_that_part_of_everything(encoded: tuple[Path, codeckit.EncodeReport]) -> None:
    everything = codeckit.decode(encoded[0])
    assert np.array_equal(codeckit.decode(encoded[0], selection=Selection(ranges={"frames": (2, 5)})), everything[2:5])
    with codeckit.open(encoded[0]) as reader:
        assert np.array_equal(reader.frames[-1], everything[-1])
    threads = [codeckit.decode(encoded[0], context=RunContext(threads=count)) for count in (1, 2)]
    assert np.array_equal(*threads)


@pytest.mark.parametrize("settings", [TAPERED, PAPER], ids=["tapered", "paper"])
def test_an_interrupted_fit_resumes_to_the_very_same_file(
    settings: dict[str, Any], moving_clip: NDArray[np.uint8], tmp_path: Path
) -> None:
    few = {**settings, "epochs": 4}
    straight = codeckit.encode(moving_clip, codec="nerv++", settings=few, context=RunContext(threads=2))
    token = CancellationToken()

    def stop_at_five(progress: Progress) -> None:
        if progress.stage == "fitting" and progress.done == 5:
            token.cancel()

    stopping = RunContext(threads=1, progress=stop_at_five, cancellation=token, checkpoint_folder=tmp_path)
    with pytest.raises(codeckit.Cancelled):
        codeckit.encode(moving_clip, codec="nerv++", settings=few, context=stopping)
    resuming = RunContext(threads=1, checkpoint_folder=tmp_path, resume=True)
    assert codeckit.encode(moving_clip, codec="nerv++", settings=few, context=resuming) == straight
    with pytest.raises(InvalidParameter, match="other settings"):
        codeckit.encode(moving_clip, codec="nerv++", settings={**few, "warm_up": 0.1}, context=resuming)


@pytest.mark.parametrize("frames", [1, 3])
def test_single_and_black_frames_can_be_coded(frames: int) -> None:
    clip = np.zeros((frames, 9, 17, 3), np.uint8)
    decoded = codeckit.decode(codeckit.encode(clip, codec="nerv++", settings={**TAPERED, "epochs": 30}))
    assert decoded.shape == clip.shape
    assert decoded.mean() < 60


def test_headers_that_promise_something_else_are_refused() -> None:
    network = structure(model_size=0.05, strides="5,2")
    assert NeRVPlusPlusStructure.from_json(network.as_json()) == network
    for change in (
        {"strides": []},
        {"kernels": [1]},
        {"kernels": [2, 3]},
        {"widths": [9, 9]},
        {"embedding": 0},
        {"hidden": 5},
        {"expansion": 0},
        {"rows": True},
        {"more": 1},
    ):
        with pytest.raises(CorruptFile):
            NeRVPlusPlusStructure.from_json({**network.as_json(), **change})


@pytest.mark.parametrize(
    "settings",
    [{"variant": "wide"}, {"expansion": 0}, {"model_size": 0}, {"strides": "0"}, {"loss": "l3"}, {"warm_up": 2.0}],
    ids=str,
)
def test_unreasonable_settings_are_refused(settings: dict[str, Any], moving_clip: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidParameter):
        codeckit.encode(moving_clip, codec="nerv++", settings=settings)


def symbol_digests(path: Path) -> dict[str, str]:
    """SHA-256 of the decoded symbols of every chunk with a network's numbers."""
    with ContainerReader(path) as reader:
        content = read_content(NetworkHeader.of(reader.header, NeRVPlusPlusStructure.from_json), reader.chunks())
    weights = b"".join(tensor.symbols.tobytes() for tensor in content.parameters)
    digests = {"WGTS": hashlib.sha256(weights).hexdigest()}
    if content.embeddings is not None:
        digests["EMBD"] = hashlib.sha256(content.embeddings.symbols.tobytes()).hexdigest()
    return digests


@pytest.mark.parametrize("name", ["nervpp-tapered-1", "nervpp-paper-1"])
def test_files_of_the_first_bitstream_version_are_still_read(name: str) -> None:
    decoded = codeckit.decode(GOLDEN / f"{name}.ck")
    reference = np.load(GOLDEN / f"{name}.npy", allow_pickle=False)
    assert decoded.shape == reference.shape
    # float32 convolutions may round differently on another processor; the integers may not
    assert np.abs(decoded.astype(int) - reference).max() <= 1
    expected = json.loads((GOLDEN / "nervpp-1.json").read_text())
    assert symbol_digests(GOLDEN / f"{name}.ck") == expected[name]
