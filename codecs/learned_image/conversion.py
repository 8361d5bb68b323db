"""From a CompressAI network to the weights of this codec: tables and the hyper-synthesis become integers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...entropy import normalise_counts
from ...formats.errors import CorruptFile, UnsupportedInput
from .model_file import FRACTION_BITS, save_model

__all__ = ["convert_checkpoint", "convert_model"]

_WEIGHT_BITS = 15
_COUNT_BITS = 40
_NORMALISATIONS = (1, 3, 5)
_CLASSES = {"FactorizedPrior": "factorized", "ScaleHyperprior": "hyperprior", "MeanScaleHyperprior": "mean-scale"}


def convert_checkpoint(checkpoint: Path, architecture: str, output: Path) -> None:
    """Convert a state dictionary as CompressAI publishes them; nothing in the file is executed.

    Raises :class:`CorruptFile` unless it holds the tensors of ``architecture``.
    """
    from compressai.models import FactorizedPrior, MeanScaleHyperprior, ScaleHyperprior

    classes = {"factorized": FactorizedPrior, "hyperprior": ScaleHyperprior, "mean-scale": MeanScaleHyperprior}
    try:
        content = checkpoint.read_bytes()
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        model = classes[architecture].from_state_dict(state)
    except Exception as error:  # torch and CompressAI raise whatever they stumble over
        raise CorruptFile(f"{checkpoint} holds no state dictionary of CompressAI's {architecture}: {error}") from error
    convert_model(model, output, {"source_sha256": hashlib.sha256(content).hexdigest()})


def convert_model(
    model: Any,
    output: Path,
    made_by: Mapping[str, str],
    *,
    gains: tuple[torch.Tensor, torch.Tensor] | None = None,
    half: bool = False,
) -> None:
    """Write ``model``, a CompressAI network, with the gains of its levels, as weights of this codec.

    ``half`` stores the float networks in 16 bits. Raises :class:`UnsupportedInput` for networks of other kinds.
    """
    kind = type(model).__name__
    if kind not in _CLASSES:
        raise UnsupportedInput(f"{kind} is not one of {', '.join(_CLASSES)}")
    model = model.eval()
    ones = torch.ones(1, int(model.M))
    before, after = (ones, ones) if gains is None else gains
    tensors: dict[str, NDArray[Any]] = {}
    for part in ("g_a", "g_s", "h_a"):
        if hasattr(model, part):
            floats = _float_layers(getattr(model, part), part)
            tensors |= {name: array.astype(np.float16 if half else np.float32) for name, array in floats.items()}
    if hasattr(model, "h_s"):
        for number in (0, 2, 4):
            tensors |= _integer_layer(model.h_s[number], f"h_s.{number}")
    tensors |= _prior(model.entropy_bottleneck)
    tensors |= {"gains": _numpy(before).astype(np.float32), "inverse_gains": _numpy(after).astype(np.float32)}
    save_model(_CLASSES[kind], tensors, output, made_by)


def _float_layers(layers: Any, part: str) -> dict[str, NDArray[Any]]:
    """Weights and biases, and normalisations as they are used after CompressAI's reparametrisation."""
    tensors: dict[str, NDArray[Any]] = {}
    for number, layer in enumerate(layers):
        name = f"{part}.{number}"
        if hasattr(layer, "weight"):
            tensors |= {f"{name}.weight": _numpy(layer.weight), f"{name}.bias": _numpy(layer.bias)}
        elif hasattr(layer, "gamma"):
            tensors[f"{name}.beta"] = _numpy(layer.beta_reparam(layer.beta))
            tensors[f"{name}.gamma"] = _numpy(layer.gamma_reparam(layer.gamma))
    return tensors


def _integer_layer(layer: Any, name: str) -> dict[str, NDArray[Any]]:
    """Weights with as many fractional bits as let the largest fit 16 bits; biases in the units of the sums."""
    weight, bias = _numpy(layer.weight).astype(np.float64), _numpy(layer.bias).astype(np.float64)
    largest = max(float(np.abs(weight).max()), 2.0**-20)
    shift = int(np.clip(np.floor(np.log2(((1 << _WEIGHT_BITS) - 1) / largest)), 0, 30))
    return {
        f"{name}.weight": np.rint(weight * 2.0**shift).astype(np.int16),
        f"{name}.bias": np.rint(bias * 2.0 ** (shift + FRACTION_BITS)).astype(np.int64),
        f"{name}.shift": np.array([shift], np.int32),
    }


@torch.no_grad()
def _prior(bottleneck: Any) -> dict[str, NDArray[Any]]:
    """Frequencies of the factorised prior, around medians that are multiples of 1/1024."""
    quantiles = bottleneck.quantiles[:, 0, :].double()
    medians = (quantiles[:, 1] * (1 << FRACTION_BITS)).round() / (1 << FRACTION_BITS)
    minima = (medians - quantiles[:, 0]).ceil().clamp(min=0).long()
    maxima = (quantiles[:, 2] - medians).ceil().clamp(min=0).long()
    longest = int((minima + maxima).max()) + 1
    samples = torch.arange(longest)[None, None, :] - minima[:, None, None] + medians[:, None, None]
    masses, lower, upper = bottleneck._likelihood(samples.float())
    rows = []
    for channel in range(len(medians)):
        length = int(minima[channel] + maxima[channel]) + 1
        inside = _numpy(masses[channel, 0, :length]).astype(np.float64)
        outside = torch.sigmoid(lower[channel, 0, 0]) + torch.sigmoid(-upper[channel, 0, length - 1])
        counts = np.append(inside, float(outside))
        rows.append(normalise_counts(np.rint(counts * 2.0**_COUNT_BITS).astype(np.int64)).astype(np.uint32))
    return {
        "prior.medians": _numpy(medians * (1 << FRACTION_BITS)).astype(np.int32),
        "prior.minima": -_numpy(minima).astype(np.int32),
        "prior.slots": np.array([len(row) for row in rows], np.int32),
        "prior.frequencies": np.concatenate(rows),
    }


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
