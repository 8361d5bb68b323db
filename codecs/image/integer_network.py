"""The pyramid's network in integers: what is shipped, hashed and evaluated by encoder and decoder.

Convolutions run in float32 on whole numbers. Each output channel's weights are bounded so that no accumulator can
reach ``2**24``, below which float32 adds integers exactly in any order; the bound is checked when weights are loaded.
Between layers, values are shifted right and rounded down, which is exact too. The head uses float64 (``2**53``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional

from ...formats.errors import CorruptFile, InvalidParameter
from .logistic_tables import FRACTION_BITS
from .pyramid import STAGES
from .pyramid_network import PLANES, WEIGHT_SETS, NetworkShape, PyramidNetwork, StageNetwork, weights_of
from .weight_rounding import INPUT_MAGNITUDE, MAX_EXPONENT, weight_exponents

__all__ = [
    "ACTIVATION_BITS",
    "BASE_SHIFT",
    "HEAD_BITS",
    "INPUT_SHIFT",
    "PROFILE",
    "IntegerNetwork",
    "IntegerStage",
    "converted",
    "load_integer_network",
    "save_integer_network",
]

PROFILE = "pyramid-int-1"

ACTIVATION_BITS = 6
_ACTIVATION_MAX = 1023
_SUM_BITS = 12
"""Fraction bits in which the first layer's three terms are added."""
_SUM_LIMIT = 1 << 20
HEAD_BITS = 16
INPUT_SHIFT = 4
BASE_SHIFT = 2
"""log2 of base unit / input unit of the float network (64 / 16)."""
_EXACT_LIMIT = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """Integer ``weight``, integer ``bias`` at the accumulator's scale, and per channel the shift ``exponent``."""

    weight: torch.Tensor
    bias: torch.Tensor
    exponent: torch.Tensor

    @property
    def unit(self) -> torch.Tensor:
        return torch.exp2(-self.exponent.float()).view(1, -1, 1, 1)


class IntegerStage:
    """One stage, built from named integer tensors."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], prefix: str, shape: NetworkShape) -> None:
        def layer(name: str) -> _Layer:
            return _Layer(
                weight=tensors[f"{prefix}{name}.weight"].float(),
                bias=tensors[f"{prefix}{name}.bias"].float(),
                exponent=tensors[f"{prefix}{name}.exponent"],
            )

        self._input = layer("input")
        self._base_sums = tensors[f"{prefix}base_sums"].float()[:, :, None, None]
        self._from_coarser = layer("from_coarser")
        self._from_stage = layer("from_stage") if f"{prefix}from_stage.weight" in tensors else None
        self._blocks = [
            (layer(f"blocks.{number}.gather"), layer(f"blocks.{number}.mix")) for number in range(shape.residual_blocks)
        ]
        self._head_weight = tensors[f"{prefix}head.weight"].double()
        self._head_bias = tensors[f"{prefix}head.bias"].double()
        self.channels = shape.channels
        self.variables = len(self._input.weight) - shape.channels
        self._window = self._input.weight.shape[2]
        self._check_bounds()

    def features(
        self,
        known: torch.Tensor,
        base: torch.Tensor,
        scale: int,
        coarser: torch.Tensor | None,
        earlier: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (integers 0..1023 or negative, float32 NCHW) and means (int64 NCHW, ``2**-10`` grey levels)."""
        before = (self._window - 1) // 2
        after = self._window - 1 - before
        padded = functional.pad(known, (before, after, before, after), mode="replicate")
        centred = functional.conv2d(padded, self._input.weight)
        centred -= functional.conv2d(base[:, :PLANES], self._base_sums)
        skip_units = torch.exp2(FRACTION_BITS - self._input.exponent[self.channels :].double())
        skip = torch.floor(centred[:, self.channels :].double() * skip_units.view(1, -1, 1, 1))
        means = (base.double() * (1 << FRACTION_BITS) + skip).to(torch.int64)
        hidden = centred[:, : self.channels] + self._input.bias[scale].view(1, -1, 1, 1)
        exponent = self._input.exponent[: self.channels].float()
        shift = torch.exp2(_SUM_BITS - INPUT_SHIFT - exponent).view(1, -1, 1, 1)
        total = _limited(hidden * shift)
        if coarser is not None:
            context = _limited(_convolve(self._from_coarser, coarser, _SUM_BITS - ACTIVATION_BITS))
            context = context.repeat_interleave(2, 2).repeat_interleave(2, 3)
            total += context[:, :, : total.shape[2], : total.shape[3]]
        if self._from_stage is not None and earlier is not None:
            total += _limited(_convolve(self._from_stage, earlier, _SUM_BITS - ACTIVATION_BITS))
        half = float(1 << (_SUM_BITS - ACTIVATION_BITS - 1))
        unit = 2.0 ** (ACTIVATION_BITS - _SUM_BITS)
        features = torch.floor((total + half) * unit).clamp_(0, _ACTIVATION_MAX)
        features = features.contiguous(memory_format=torch.channels_last)
        for gather, mix in self._blocks:
            inner = torch.floor(_convolve(gather, features, 0)).clamp_(0, _ACTIVATION_MAX)
            features = features + torch.floor(_convolve(mix, inner, 0))
            features.clamp_(-_ACTIVATION_MAX, _ACTIVATION_MAX)
        return features, means

    def parameters(self, features: torch.Tensor) -> torch.Tensor:
        """Circuit parameters of each block, int32 ``[blocks, parameters]`` in ``2**-10``, batch and rows first."""
        flat = features.permute(0, 2, 3, 1).reshape(-1, self.channels).double()
        exact = torch.addmm(self._head_bias, flat, self._head_weight.T)
        unit = 2.0 ** (FRACTION_BITS - HEAD_BITS - ACTIVATION_BITS)
        return torch.floor(exact * unit).to(torch.int32)

    def _check_bounds(self) -> None:
        """Refuse weights under which float32 could round."""
        largest = INPUT_MAGNITUDE / 2
        sums = self._input.weight.double().abs().flatten(1).sum(1) * largest
        sums += self._base_sums.double().abs().flatten(1).sum(1) * largest
        sums[: self.channels] += self._input.bias.double().abs().amax(0)
        layers = [self._from_coarser, *(layer for pair in self._blocks for layer in pair)]
        if self._from_stage is not None:
            layers.append(self._from_stage)
        bounds = [sums.max()]
        for layer in layers:
            products = layer.weight.double().abs().flatten(1).sum(1) * _ACTIVATION_MAX
            bounds.append((products + layer.bias.double().abs()).max())
        exponents = torch.cat([self._input.exponent, *(layer.exponent for layer in layers)])
        head = self._head_weight.abs().sum(1) * _ACTIVATION_MAX + self._head_bias.abs()
        if max(float(bound) for bound in bounds) >= _EXACT_LIMIT or float(head.max()) >= 1 << 50:
            raise CorruptFile("network weights are too large for exact sums; export them again")
        if int(exponents.min()) < 1 or int(exponents.max()) > MAX_EXPONENT:
            raise CorruptFile(f"network exponents {int(exponents.min())}..{int(exponents.max())} out of range")


class IntegerNetwork:
    """All stages in integers; ``digest`` is the SHA-256 of every number that decides a symbol."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], shape: NetworkShape) -> None:
        self.tensors = dict(sorted(tensors.items()))
        self.shape = shape
        try:
            self.stages = tuple(
                IntegerStage(tensors, f"stages.{index}.", shape) for index in range(WEIGHT_SETS * len(STAGES))
            )
        except (KeyError, RuntimeError, IndexError) as error:
            raise CorruptFile(f"network weights are incomplete: {error}") from error

    def level(self, level: int) -> tuple[IntegerStage, IntegerStage, int]:
        """Both stages that serve ``level``, and which of their biases."""
        number, scale = weights_of(level)
        stage_a, stage_b = self.stages[len(STAGES) * number : len(STAGES) * (number + 1)]
        return stage_a, stage_b, scale

    @cached_property
    def digest(self) -> str:
        running = hashlib.sha256(f"{PROFILE};{sorted(self.shape.as_metadata().items())}".encode())
        for name, tensor in self.tensors.items():
            running.update(f";{name}{list(tensor.shape)}:".encode())
            running.update(tensor.to(torch.int32).contiguous().numpy().astype("<i4").tobytes())
        return running.hexdigest()


def converted(network: PyramidNetwork) -> IntegerNetwork:
    """Round a trained network to integers."""
    tensors: dict[str, torch.Tensor] = {}
    for index, stage in enumerate(network.stages):
        if not isinstance(stage, StageNetwork):
            raise InvalidParameter("not a stage of the pyramid network")
        for name, value in _stage_tensors(stage).items():
            tensors[f"stages.{index}.{name}"] = value.to(torch.int32).contiguous()
    return IntegerNetwork(tensors, network.shape)


def save_integer_network(network: IntegerNetwork, path: Path, metadata: Mapping[str, str]) -> None:
    """Write integer weights as safetensors, with their digest and how they were made."""
    from safetensors.torch import save_file

    own = {**network.shape.as_metadata(), "profile": PROFILE, "digest": network.digest}
    save_file(network.tensors, path, metadata={**metadata, **own})


def load_integer_network(path: Path) -> IntegerNetwork:
    """Read and check integer weights; raises :class:`CorruptFile` where they are not what was saved."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InvalidParameter(f"{path}: no such file of network weights")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        shape = NetworkShape.from_metadata(metadata)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptFile(f"{path} does not hold network weights: {error}") from error
    if metadata.get("profile") != PROFILE:
        raise CorruptFile(f"{path} has the numeric profile {metadata.get('profile')}, not {PROFILE}")
    network = IntegerNetwork(tensors, shape)
    if metadata.get("digest") != network.digest:
        raise CorruptFile(f"{path}: the stored digest disagrees with the weights; the file is damaged")
    return network


def _stage_tensors(stage: StageNetwork) -> dict[str, torch.Tensor]:
    channels = stage.input.shape[0]
    filters = torch.cat([stage.input, stage.skip]).detach().double()
    exponent = weight_exponents(filters, INPUT_MAGNITUDE)
    scale = torch.exp2(exponent)
    weight = torch.round(filters * scale.view(-1, 1, 1, 1))
    sums = weight.sum((2, 3)).view(len(weight), -1, PLANES).sum(1)
    colour = torch.round(stage.base.detach().double() * (scale[:channels, None] / (1 << BASE_SHIFT)))
    sums[:channels] -= colour
    bias = (stage.bias + stage.scale_bias).detach().double() * scale[:channels] * (1 << INPUT_SHIFT)
    tensors = {
        "input.weight": weight,
        "input.exponent": exponent,
        "input.bias": torch.round(bias),
        "base_sums": sums,
        "head.weight": torch.round(stage.head.weight.detach().double()[:, :, 0, 0] * (1 << HEAD_BITS)),
        "head.bias": torch.round(_bias(stage.head).double() * (1 << (HEAD_BITS + ACTIVATION_BITS))),
    }
    tensors.update(_layer_tensors("from_coarser", stage.from_coarser, rounding=False))
    if stage.from_stage is not None:
        tensors.update(_layer_tensors("from_stage", stage.from_stage, rounding=False))
    for number, block in enumerate(stage.blocks):
        tensors.update(_layer_tensors(f"blocks.{number}.gather", block.gather, rounding=True))
        tensors.update(_layer_tensors(f"blocks.{number}.mix", block.mix, rounding=True))
    return tensors


def _layer_tensors(name: str, layer: object, *, rounding: bool) -> dict[str, torch.Tensor]:
    """Integers of one hidden convolution; ``rounding`` puts the half that turns a floor into a round in its bias."""
    if not isinstance(layer, torch.nn.Conv2d):
        raise InvalidParameter(f"{name} is not a convolution")
    weight = layer.weight.detach().double()
    exponent = weight_exponents(weight, float(_ACTIVATION_MAX))
    scale = torch.exp2(exponent)
    bias = torch.zeros(len(weight), dtype=torch.float64)
    if layer.bias is not None:
        bias = torch.round(_bias(layer).double() * scale * (1 << ACTIVATION_BITS))
    if rounding:
        bias = bias + torch.exp2(exponent - 1)
    return {
        f"{name}.weight": torch.round(weight * scale.view(-1, 1, 1, 1)),
        f"{name}.bias": bias,
        f"{name}.exponent": exponent,
    }


def _bias(layer: torch.nn.Conv2d) -> torch.Tensor:
    if layer.bias is None:
        raise InvalidParameter("a layer that needs a bias has none")
    return layer.bias.detach()


def _convolve(layer: _Layer, features: torch.Tensor, extra_bits: int) -> torch.Tensor:
    """Exact convolution of activations, in units of ``2**-(6 + extra_bits)``; may hold fractions."""
    pad = layer.weight.shape[2] // 2
    sums = functional.conv2d(features, layer.weight, layer.bias, padding=pad)
    return sums * (layer.unit * float(1 << extra_bits))


def _limited(values: torch.Tensor) -> torch.Tensor:
    """Whole numbers small enough that three of them add exactly."""
    return torch.floor(values).clamp_(-_SUM_LIMIT, _SUM_LIMIT)
