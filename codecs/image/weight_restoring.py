"""From shipped integer weights back to a network that can be trained further."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from .integer_network import ACTIVATION_BITS, BASE_SHIFT, HEAD_BITS, INPUT_SHIFT, IntegerNetwork, load_integer_network
from .pyramid_network import PLANES, PyramidNetwork

__all__ = ["restored", "restored_from"]


def restored_from(path: Path) -> PyramidNetwork:
    """The network whose rounding is in ``path``; raises :class:`CorruptFile` where that is not what was saved."""
    return restored(load_integer_network(path))


def restored(network: IntegerNetwork) -> PyramidNetwork:
    """A float network that says what ``network`` says, but for rounding between layers."""
    result = PyramidNetwork(network.shape)
    values: dict[str, torch.Tensor] = {}
    for index in range(len(network.stages)):
        prefix = f"stages.{index}."
        tensors = {
            name.removeprefix(prefix): value.double()
            for name, value in network.tensors.items()
            if name.startswith(prefix)
        }
        for name, value in _stage_values(tensors, network.shape.channels).items():
            values[prefix + name] = value.float()
    result.load_state_dict(values)
    return result


def _stage_values(tensors: Mapping[str, torch.Tensor], channels: int) -> dict[str, torch.Tensor]:
    scale = torch.exp2(tensors["input.exponent"])
    weight = tensors["input.weight"]
    filters = weight / scale.view(-1, 1, 1, 1)
    sums = weight.sum((2, 3)).view(len(weight), -1, PLANES).sum(1)
    colour = (sums - tensors["base_sums"])[:channels]
    values = {
        "input": filters[:channels],
        "skip": filters[channels:],
        "base": colour * (1 << BASE_SHIFT) / scale[:channels, None],
        "bias": torch.zeros(channels),
        "scale_bias": tensors["input.bias"] / (scale[:channels] * (1 << INPUT_SHIFT)),
        "head.weight": tensors["head.weight"][:, :, None, None] / (1 << HEAD_BITS),
        "head.bias": tensors["head.bias"] / (1 << (HEAD_BITS + ACTIVATION_BITS)),
    }
    for key in tensors:
        name = key.removesuffix(".exponent")
        if name == key or name == "input":
            continue
        unit = torch.exp2(-tensors[key])
        values[f"{name}.weight"] = tensors[f"{name}.weight"] * unit.view(-1, 1, 1, 1)
        if name.startswith("blocks"):
            # the half that turned a floor into a round goes
            values[f"{name}.bias"] = (tensors[f"{name}.bias"] * unit - 0.5) / (1 << ACTIVATION_BITS)
    return values
