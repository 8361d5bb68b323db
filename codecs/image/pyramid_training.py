"""Training the pyramid's network: a wall-clock budget, checkpoints, and a last phase with integer rounding."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...formats.errors import CorruptFile, InvalidParameter
from ..protocol import Figure
from ..run_context import RunContext
from .held_out import held_out_names
from .mixture_likelihood import log_likelihood
from .muon import Muon
from .pyramid_network import Arithmetic, NetworkShape, PyramidNetwork
from .training_patches import PatchPool, photographs
from .weight_restoring import restored_from

__all__ = ["TrainingSettings", "code_length", "load_network", "save_network", "train_pyramid"]

_LEVELS = 3
_DIVISOR = 1 << _LEVELS


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How long and how fast to train; ``seconds`` is wall-clock time, of which the last part is rounded.

    ``initial`` names weights to go on from: a checkpoint, or integer weights as shipped.
    """

    seconds: float = 3600.0
    rounded_part: float = 0.12
    batch: int = 4
    patch: int = 64
    learning_rate: float = 4e-3
    matrix_learning_rate: float = 0.02
    warm_up_steps: int = 100
    final_part: float = 0.01
    average_decay: float = 0.999
    checkpoint_seconds: float = 300.0
    initial: Path | None = None
    shape: NetworkShape = field(default_factory=NetworkShape)

    def __post_init__(self) -> None:
        if self.seconds <= 0 or not 0 <= self.rounded_part <= 1:
            raise InvalidParameter("seconds must be positive and rounded_part between 0 and 1")
        if self.patch % _DIVISOR:
            raise InvalidParameter(f"patch must be a multiple of {_DIVISOR}, got {self.patch}")


def train_pyramid(
    data: Sequence[Path], output: Path, settings: TrainingSettings, context: RunContext
) -> Mapping[str, Figure]:
    """Train on the photographs in ``data`` and write weights to ``output`` (safetensors).

    A log of JSON lines grows beside it (``output`` with the suffix ``.log.jsonl``), and so do checkpoints
    under ``output`` itself, so that a stopped run leaves its last state.
    """
    torch.manual_seed(context.seed)
    held_out = held_out_names()
    pool = PatchPool(photographs(data, held_out), context.seed, settings.patch)
    validation = _validation_batches(data, held_out)
    network = PyramidNetwork(settings.shape) if settings.initial is None else _initial_network(settings.initial)
    optimisers = _optimisers(network, settings)
    log = output.with_suffix(".log.jsonl")
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.average_decay))
    shipped = averaged.module
    if not isinstance(shipped, PyramidNetwork):
        raise TypeError(f"the averaged model is a {type(shipped).__name__}")
    started = time.monotonic()
    next_checkpoint = settings.checkpoint_seconds
    average, step, elapsed = 0.0, 0, 0.0
    _append(log, {"settings": _plain(settings), "seed": context.seed, "patches": len(pool)})
    while elapsed < settings.seconds:
        done = elapsed / settings.seconds
        factor = _rate_factor(step, done, settings)
        for optimiser, rate in optimisers:
            optimiser.param_groups[0]["lr"] = rate * factor
        rounded = done >= 1 - settings.rounded_part
        planes = torch.from_numpy(pool.batch(settings.batch, settings.patch)).float()
        loss = code_length(network, planes, _LEVELS, Arithmetic.ROUNDED if rounded else Arithmetic.BFLOAT16)
        network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser, _ in optimisers:
            optimiser.step()
        averaged.update_parameters(network)
        step += 1
        average += (loss.item() - average) / min(step, 200)
        elapsed = time.monotonic() - started
        if step % 20 == 0:
            context.report("train", int(elapsed), int(settings.seconds), unit="s", bits=average)
        if elapsed >= next_checkpoint or elapsed >= settings.seconds:
            next_checkpoint += settings.checkpoint_seconds
            held = _validate(shipped, validation, Arithmetic.FLOAT32)
            held_rounded = _validate(shipped, validation, Arithmetic.ROUNDED)
            _append(
                log,
                {
                    "step": step,
                    "seconds": round(elapsed, 1),
                    "rate_factor": round(factor, 5),
                    "train_bpsp": round(average, 4),
                    "held_out_bpsp": round(held, 4),
                    "held_out_rounded_bpsp": round(held_rounded, 4),
                },
            )
            save_network(shipped, output, {"steps": str(step), "seed": str(context.seed)})
    return {"steps": step, "train_bpsp": average, "held_out_bpsp": held_rounded}


def code_length(network: PyramidNetwork, planes: torch.Tensor, levels: int, arithmetic: Arithmetic) -> torch.Tensor:
    """Bits per sub-pixel of ``planes`` ``[batch, 3, height, width]`` over ``levels`` levels, coarsest grid left out."""
    pyramid = [planes]
    for _ in range(levels - 1):
        pyramid.append(pyramid[-1][:, :, ::2, ::2])
    nats = planes.new_zeros(())
    coarser = None
    for level in range(levels - 1, -1, -1):
        outputs = network.level(pyramid[level], level, coarser, arithmetic=arithmetic)
        for output, values in outputs:
            likelihood = log_likelihood(output.parameters, values, output.means, states=network.shape.states)
            nats = nats - likelihood.sum()
        coarser = outputs[-1][0].features
    return nats / (math.log(2) * planes.numel())


def save_network(network: PyramidNetwork, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the weights and the network's shape, whole or not at all."""
    temporary = path.with_suffix(".partial")
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, temporary, metadata={**network.shape.as_metadata(), **metadata})
    temporary.replace(path)


def load_network(path: Path) -> PyramidNetwork:
    """Read weights written by :func:`save_network`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            shape = NetworkShape.from_metadata(opened.metadata())
        network = PyramidNetwork(shape)
        network.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CorruptFile(f"{path} holds no weights of the pyramid network: {error}") from error
    return network


def _initial_network(path: Path) -> PyramidNetwork:
    """Weights of a checkpoint, or those that were shipped."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            shipped = "profile" in (opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CorruptFile(f"{path} holds no weights of the pyramid network: {error}") from error
    return restored_from(path) if shipped else load_network(path)


def _optimisers(network: PyramidNetwork, settings: TrainingSettings) -> list[tuple[torch.optim.Optimizer, float]]:
    hidden = ("blocks", "from_coarser", "from_stage")
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.dim() > 1 and any(part in name for part in hidden)
        (matrices if is_matrix else others).append(parameter)
    return [
        (torch.optim.Adam(others, settings.learning_rate, betas=(0.9, 0.99)), settings.learning_rate),
        (Muon(matrices, settings.matrix_learning_rate), settings.matrix_learning_rate),
    ]


def _rate_factor(step: int, done: float, settings: TrainingSettings) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    floor = settings.final_part
    return min(1.0, (step + 1) / settings.warm_up_steps) * (floor + (1 - floor) * cosine)


def _validation_batches(data: Sequence[Path], held_out: frozenset[str]) -> list[torch.Tensor]:
    """Fixed crops of the held-out photographs, one each."""
    from PIL import Image

    from .colour import to_ycocg

    size = 128
    crops = []
    for folder in data:
        for name in sorted(held_out):
            if not (folder / name).is_file():
                continue
            with Image.open(folder / name) as opened:
                image = opened.convert("RGB")
            left, top = (image.width - size) // 2, (image.height - size) // 2
            box = image.crop((left, top, left + size, top + size))
            crops.append(torch.from_numpy(to_ycocg(np.asarray(box))).float())
    return [torch.stack(crops)] if crops else []


@torch.no_grad()
def _validate(network: PyramidNetwork, batches: list[torch.Tensor], arithmetic: Arithmetic) -> float:
    if not batches:
        return math.nan
    lengths = [code_length(network, batch, _LEVELS, arithmetic).item() for batch in batches]
    return sum(lengths) / len(lengths)


def _append(log: Path, row: Mapping[str, object]) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def _plain(settings: TrainingSettings) -> dict[str, object]:
    values = asdict(settings)
    values["initial"] = None if settings.initial is None else settings.initial.name
    return values
