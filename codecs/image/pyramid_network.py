"""The pyramid's network as it is trained: floating point, or rounded as the integer network will be.

The finest level has weights of its own, all coarser levels share others. All stages have the same shape. A window of
known pixels around each block, minus the block's base prediction, feeds a linear skip to the means and the channels,
which also take context from the stage and level before; residual blocks (3x3, then 1x1) and a 1x1 head give the
parameters of the block's circuit. Activations are clamped
to what :mod:`.integer_network` can hold, so that conversion changes nothing but rounding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum, auto

import torch
from torch import nn
from torch.nn import functional

from .mixture_likelihood import LOG_SCALE_MAX, parameter_count
from .pyramid import STAGES, base_predictions_a, base_predictions_b
from .weight_rounding import ACTIVATION_LIMIT, ACTIVATION_STEP, INPUT_MAGNITUDE, round_weights

__all__ = [
    "PLANES",
    "SCALES",
    "WEIGHT_SETS",
    "Arithmetic",
    "NetworkShape",
    "PyramidNetwork",
    "StageNetwork",
    "StageOutput",
    "weights_of",
]

PLANES = 3
SCALES = 3
"""Levels with their own bias: the finest, the one above it, and all coarser ones."""
WEIGHT_SETS = 2
"""Levels with their own weights: the finest, and all coarser ones."""
SCALES_OF_SET = (1, 2)
"""Biases in each set."""

_INPUT_UNIT = 16.0
_BASE_UNIT = 64.0


class Arithmetic(Enum):
    """How hidden layers compute: fast for training, exact for reference, or rounded as integers will be."""

    BFLOAT16 = auto()
    FLOAT32 = auto()
    ROUNDED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """Sizes of the network; part of a weight file's metadata."""

    channels: int = 64
    states: int = 5
    residual_blocks: int = 2

    def as_metadata(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> NetworkShape:
        return cls(**{name: int(metadata[name]) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutput:
    """What a stage says of its blocks: rows ``[batch * height * width, ...]``, and features as a map."""

    parameters: torch.Tensor
    means: torch.Tensor
    features: torch.Tensor


def weights_of(level: int) -> tuple[int, int]:
    """Which set of weights serves ``level`` (0 is the finest), and which of its biases."""
    number = min(level, WEIGHT_SETS - 1)
    return number, min(level, SCALES - 1) - number


class ResidualBlock(nn.Module):
    """``x + conv1x1(relu(conv3x3(x)))``, clamped."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gather = nn.Conv2d(channels, channels, 3, padding=1)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, features: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
        hidden = _clamped(_convolve(self.gather, features, arithmetic), 0.0, arithmetic)
        return _clamped(features + _convolve(self.mix, hidden, arithmetic), -ACTIVATION_LIMIT, arithmetic)


class StageNetwork(nn.Module):
    """One stage: ``grids`` known grids in, the circuit over ``PLANES * grids`` sub-pixels out."""

    def __init__(self, shape: NetworkShape, grids: int, scales: int) -> None:
        super().__init__()
        channels, states = shape.channels, shape.states
        self.variables = PLANES * grids
        # a block of stage A lies between the pixels of its window's centre, one of stage B beside them
        self.window = 6 if grids == 1 else 5
        inputs = PLANES * grids
        self.input = nn.Parameter(
            torch.randn(channels, inputs, self.window, self.window) / (inputs * self.window**2) ** 0.5
        )
        self.skip = nn.Parameter(torch.zeros(self.variables, inputs, self.window, self.window))
        self.base = nn.Parameter(torch.zeros(channels, PLANES))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale_bias = nn.Parameter(torch.zeros(scales, channels))
        self.from_coarser = nn.Conv2d(channels, channels, 1, bias=False)
        self.from_stage = nn.Conv2d(channels, channels, 1, bias=False) if grids == 2 else None
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(shape.residual_blocks))
        self.head = nn.Conv2d(channels, parameter_count(self.variables, states), 1)
        self._start_head(states)

    def _start_head(self, states: int) -> None:
        """Begin with latent states whose scales span what photographs need."""
        cells = self.variables * states
        bias = torch.zeros(len(self.head.weight))
        bias[:cells] = torch.randn(cells) * 0.08
        with torch.no_grad():
            self.head.weight.mul_(0.3)
            scales = torch.linspace(-0.5, LOG_SCALE_MAX - 3.0, states)
            bias[cells : 2 * cells] = scales.repeat(self.variables)
            self.head.bias = nn.Parameter(bias)

    def forward(
        self,
        known: torch.Tensor,
        base: torch.Tensor,
        scale: int,
        coarser: torch.Tensor | None,
        earlier: torch.Tensor | None,
        *,
        arithmetic: Arithmetic,
    ) -> StageOutput:
        """``known`` holds integer planes, ``base`` the integer base predictions of the block's sub-pixels.

        ``coarser`` are the features of the coarser level's stage B (half the size), ``earlier`` those of stage A.
        """
        channels = self.input.shape[0]
        filters = torch.cat([self.input, self.skip])
        if arithmetic is Arithmetic.ROUNDED:
            filters = round_weights(filters, INPUT_MAGNITUDE)
        before = (self.window - 1) // 2
        after = self.window - 1 - before
        padded = functional.pad(known, (before, after, before, after), mode="replicate")
        centred = functional.conv2d(padded.contiguous(memory_format=torch.channels_last), filters)
        # taking the base off every input of a window is a product of the base with the filters' sums
        sums = filters.sum((2, 3)).view(len(filters), -1, PLANES).sum(1)
        by_colour = torch.cat([self.base * (_INPUT_UNIT / _BASE_UNIT) - sums[:channels], -sums[channels:]])
        colour = _rows(base)[:, :PLANES]
        total = torch.addmm(_rows(centred), colour, by_colour.T)
        means = _rows(base) + total[:, channels:]
        hidden = total[:, :channels] / _INPUT_UNIT + (self.bias + self.scale_bias[scale])
        if arithmetic is Arithmetic.BFLOAT16:
            hidden = hidden.to(torch.bfloat16)
        batch, _, height, width = base.shape
        hidden = hidden.view(batch, height, width, channels).permute(0, 3, 1, 2)
        if coarser is not None:
            context = _convolve(self.from_coarser, coarser, arithmetic)
            context = context.repeat_interleave(2, 2).repeat_interleave(2, 3)
            hidden = hidden + context[:, :, :height, :width]
        if self.from_stage is not None and earlier is not None:
            hidden = hidden + _convolve(self.from_stage, earlier, arithmetic)
        features = _clamped(hidden, 0.0, arithmetic)
        for block in self.blocks:
            features = block(features, arithmetic)
        parameters = functional.linear(_rows(features).float(), self.head.weight[:, :, 0, 0], self.head.bias)
        return StageOutput(parameters=parameters, means=means, features=features)


class PyramidNetwork(nn.Module):
    """Both stages for the finest level, and both for all coarser ones."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.stages = nn.ModuleList(
            StageNetwork(shape, grids, scales) for scales in SCALES_OF_SET for grids in range(1, len(STAGES) + 1)
        )

    def level(
        self,
        planes: torch.Tensor,
        level: int,
        coarser: torch.Tensor | None,
        *,
        arithmetic: Arithmetic,
    ) -> list[tuple[StageOutput, torch.Tensor]]:
        """Run both stages on ``planes`` of even size.

        Returns each stage's output and the values it predicts, as rows ``[blocks, variables]``.
        """
        coarse, diagonal = planes[:, :, ::2, ::2], planes[:, :, 1::2, 1::2]
        right, under = planes[:, :, ::2, 1::2], planes[:, :, 1::2, ::2]
        number, scale = weights_of(level)
        stage_a, stage_b = self.stages[len(STAGES) * number : len(STAGES) * (number + 1)]
        first = stage_a(coarse, base_predictions_a(coarse), scale, coarser, None, arithmetic=arithmetic)
        second = stage_b(
            torch.cat([coarse, diagonal], 1),
            base_predictions_b(coarse, diagonal),
            scale,
            coarser,
            first.features,
            arithmetic=arithmetic,
        )
        return [(first, _rows(diagonal)), (second, _rows(torch.cat([right, under], 1)))]


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """``[batch, n, height, width]`` as contiguous ``[blocks, n]``."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).contiguous()


def _convolve(layer: nn.Conv2d, features: torch.Tensor, arithmetic: Arithmetic) -> torch.Tensor:
    weight, bias = layer.weight, layer.bias
    if arithmetic is Arithmetic.ROUNDED:
        weight = round_weights(weight, ACTIVATION_LIMIT / ACTIVATION_STEP)
    if features.dtype == torch.bfloat16:
        weight = weight.to(torch.bfloat16)
        bias = None if bias is None else bias.to(torch.bfloat16)
    return functional.conv2d(features, weight, bias, padding=layer.padding)


def _clamped(features: torch.Tensor, low: float, arithmetic: Arithmetic) -> torch.Tensor:
    # one kernel both ways, where clamp's gradient takes three
    clamped = functional.hardtanh(features, low, ACTIVATION_LIMIT)
    if arithmetic is Arithmetic.ROUNDED:
        steps = torch.floor(clamped.detach() / ACTIVATION_STEP + 0.5) * ACTIVATION_STEP
        return clamped + (steps - clamped.detach())
    return clamped
