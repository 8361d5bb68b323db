"""The network is the published one, and any picture size gets one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codeckit.codecs.video.frame_decoder import parameter_shapes
from codeckit.codecs.video.hnerv_network import Decoder, hnerv
from codeckit.codecs.video.hnerv_structure import Structure, choose_strides, make_structure, padded_size
from codeckit.formats.errors import CorruptFile, InvalidParameter

PAPER = {"width": 1280, "height": 640, "frames": 132, "strides": (5, 4, 4, 2, 2)}


def test_the_widths_for_1_5_million_parameters_are_the_published_ones() -> None:
    structure = make_structure(**PAPER, model_size=1.5)
    assert structure.widths == (68, 57, 48, 40, 33, 28)
    assert structure.kernels == (1, 3, 5, 5, 5)
    assert (structure.rows, structure.columns, structure.embedding) == (2, 4, 16)


@pytest.mark.parametrize("model_size", [0.35, 0.75, 1.5, 3.0])
def test_decoder_and_embeddings_together_have_about_the_size_asked_for(model_size: float) -> None:
    structure = make_structure(**PAPER, model_size=model_size)
    total = structure.decoder_parameters + 132 * math.prod(structure.embedding_shape)
    assert abs(total / 1e6 - model_size) < 0.07 * model_size  # widths are whole numbers


def test_the_network_has_the_parameters_and_the_layers_of_its_structure() -> None:
    structure = make_structure(**PAPER, model_size=1.5)
    with torch.device("meta"):
        model = hnerv(structure)
    decoder = model.decoder
    assert sum(value.numel() for value in decoder.parameters()) == structure.decoder_parameters
    assert [stage.out_channels for stage in decoder.stages] == [57 * 25, 48 * 16, 40 * 16, 33 * 4, 28 * 4]
    assert [stage.kernel_size[0] for stage in decoder.stages] == [1, 3, 5, 5, 5]
    assert next(iter(parameter_shapes(structure).values())) == (68, 16, 1, 1)
    patches = [module for module in model.encoder.modules() if getattr(module, "stride", (1, 1)) != (1, 1)]
    assert [patch.stride[0] for patch in patches] == [5, 4, 4, 2, 2]
    assert [patch.out_channels for patch in patches] == [64, 64, 64, 64, 16]


def test_pictures_go_in_and_come_out_in_the_same_size() -> None:
    structure = make_structure(width=80, height=40, frames=4, strides=(5, 2, 2), model_size=0.02)
    model = hnerv(structure, encoder_width=8)
    pictures = torch.rand(2, 3, 40, 80)
    embeddings = model.encoder(pictures)
    assert embeddings.shape == (2, 16, 2, 4)
    output = model(pictures).detach()
    assert output.shape == pictures.shape
    assert 0 <= float(output.min()) <= float(output.max()) <= 1


def test_strides_for_the_paper_s_pictures_are_the_paper_s() -> None:
    assert choose_strides(640, 1280) == (5, 4, 4, 2, 2)
    assert choose_strides(960, 1920) == (5, 4, 4, 3, 2)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_every_size_gets_strides_with_bounded_padding(height: int, width: int) -> None:
    strides = choose_strides(height, width)
    padded_height, padded_width = padded_size(height, width, strides)
    assert padded_height >= height
    assert padded_width >= width
    assert padded_height % math.prod(strides) == padded_width % math.prod(strides) == 0
    assert padded_height * padded_width <= 2 * height * width + 3 * (height + width)


def test_the_structure_counts_multiplications_as_torch_does() -> None:
    structure = make_structure(width=80, height=40, frames=4, strides=(5, 2, 2), model_size=0.02)
    from torch.utils.flop_counter import FlopCounterMode

    decoder = Decoder(structure)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(torch.zeros(1, 16, structure.rows, structure.columns))
    assert counter.get_total_flops() == 2 * structure.macs_per_frame


def test_embeddings_that_exceed_the_size_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="too small"):
        make_structure(width=320, height=160, frames=1000, strides=(2, 2), model_size=0.1)


def test_the_json_form_is_read_back_and_nothing_else() -> None:
    structure = make_structure(**PAPER, model_size=0.75)
    assert Structure.from_json(structure.as_json()) == structure
    for change in (
        {"strides": []},
        {"strides": [5, 0]},
        {"widths": [68, 57]},
        {"rows": 0},
        {"rows": True},
        {"columns": 1 << 20},
        {"embedding": "16"},
        {"more": 1},
    ):
        with pytest.raises(CorruptFile):
            Structure.from_json({**structure.as_json(), **change})
