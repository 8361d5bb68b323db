"""``codec train compressai``: a CompressAI network of several rates, trained for mean square error."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ...formats.errors import InvalidParameter
from ..parameters import make_parameters
from ..protocol import Figure
from ..run_context import RunContext
from .component_start import start_from_components
from .conversion import convert_checkpoint, convert_model
from .gained_network import GainedNetwork, first_gain
from .training_crops import CropPool, held_out_crops, photographs

__all__ = ["TrainingSettings", "train"]

_FIRST_CROPS = 64
_GRADIENT_NORM = 1.0
_LEVEL_OF_WHITE = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Settings of a training; ``seconds`` is wall-clock time.

    ``lambdas`` weigh 255² times the mean square error against bits per pixel, one for each quality level.
    """

    architecture: Literal["factorized", "hyperprior", "mean-scale"] = field(
        default="hyperprior", metadata={"help": "the prior: of Ballé et al. 2018 or of Minnen et al. 2018"}
    )
    channels: int = field(default=48, metadata={"help": "CompressAI's N"})
    latent_channels: int = field(default=144, metadata={"help": "CompressAI's M"})
    lambdas: str = field(default="0.0018,0.0054,0.0162,0.0486", metadata={"help": "one for each level, ascending"})
    seconds: float = field(default=1500.0, metadata={"help": "wall-clock time"})
    batch: int = field(default=4, metadata={"help": "crops a step; levels take turns"})
    crop: int = field(default=128, metadata={"help": "side of a crop in pixels, a multiple of 128"})
    small_part: float = field(default=0.0, metadata={"help": "part of the time at first with crops of half the side"})
    learning_rate: float = field(default=1e-3, metadata={"help": "the highest, of Adam"})
    prior_learning_rate: float = field(default=3e-3, metadata={"help": "that of the factorised prior"})
    warm_up_steps: int = field(default=200, metadata={"help": "steps until the highest learning rate"})
    average_decay: float = field(default=0.999, metadata={"help": "of the moving average that is kept"})
    checkpoint_seconds: float = field(default=120.0, metadata={"help": "time between checkpoints"})
    initial: str = field(default="", metadata={"help": "a checkpoint (.float.safetensors) to go on from"})
    convert: str = field(
        default="",
        metadata={"help": "convert CompressAI's checkpoint in this file, of the architecture given, instead"},
    )

    def __post_init__(self) -> None:
        if self.crop % 128 or self.crop < 128:
            raise InvalidParameter(f"crop={self.crop} is not a multiple of 128")
        if min(self.channels, self.latent_channels, self.batch, self.warm_up_steps) < 1:
            raise InvalidParameter("channels, latent_channels, batch and warm_up_steps must be positive")
        for name in ("seconds", "learning_rate", "prior_learning_rate", "checkpoint_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidParameter(f"{name}={getattr(self, name)} is not a positive number")
        if not 0 <= self.small_part <= 1 or not 0 <= self.average_decay < 1:
            raise InvalidParameter("small_part must lie within 0 to 1, average_decay from 0 to below 1")
        if self.levels != tuple(sorted(self.levels)) or self.levels[0] <= 0:
            raise InvalidParameter(f"lambdas={self.lambdas} are not positive and ascending")

    @property
    def levels(self) -> tuple[float, ...]:
        """The numbers of ``lambdas``."""
        try:
            return tuple(float(one) for one in self.lambdas.split(","))
        except ValueError:
            raise InvalidParameter(f"lambdas={self.lambdas} are not numbers between commas") from None


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Train on the photographs in ``data``; write the weights, and beside them the checkpoint and a log.

    With ``convert`` nothing is trained: the weights are those of a checkpoint that CompressAI wrote.
    """
    chosen: TrainingSettings = make_parameters(TrainingSettings, {"": {}}, "", settings)
    if chosen.convert:
        convert_checkpoint(Path(chosen.convert), chosen.architecture, output)
        return {"architecture": chosen.architecture, "size_bytes": output.stat().st_size}
    if not data:
        raise InvalidParameter("give the training data: --data PATH ...")
    if context.threads is not None:
        torch.set_num_threads(context.threads)
    torch.manual_seed(context.seed)
    training, held_out = photographs(data)
    pool = CropPool(training, context.seed)
    network = _network(chosen, pool)
    checkpoint = output.with_suffix(".float.safetensors")
    log = output.with_suffix(".log.jsonl")
    _append(log, {**asdict(chosen), "initial": Path(chosen.initial).name, "seed": context.seed, "files": len(training)})
    measured = torch.from_numpy(held_out_crops(held_out, chosen.crop)).float() / _LEVEL_OF_WHITE
    figures: dict[str, Figure] = {}
    for averaged, row in _steps(network, pool, chosen, context):
        figures = {**row, **_measured(averaged, measured, chosen.levels)}
        _append(log, figures)
        _save(averaged, checkpoint)
        _ship(averaged, output, {"steps": str(row["steps"]), "seed": str(context.seed), "lambdas": chosen.lambdas})
    return {**figures, "size_bytes": output.stat().st_size}


def _restore(network: GainedNetwork, checkpoint: Path) -> None:
    """Take the weights of a checkpoint; raises :class:`InvalidParameter` where it has none of this network."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        missing = network.load_state_dict(load_file(checkpoint), strict=False).missing_keys
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InvalidParameter(f"initial={checkpoint}: {str(error).splitlines()[0]}") from error
    trained = {name for name, _ in network.named_parameters()} & set(missing)
    if trained:
        raise InvalidParameter(
            f"initial={checkpoint} lacks {len(trained)} of the network's weights, such as {min(trained)}; it must be a "
            "checkpoint (.float.safetensors) of the same architecture"
        )


def _network(settings: TrainingSettings, pool: CropPool) -> GainedNetwork:
    from compressai.models import FactorizedPrior, MeanScaleHyperprior, ScaleHyperprior  # takes ten seconds

    models = {"factorized": FactorizedPrior, "hyperprior": ScaleHyperprior, "mean-scale": MeanScaleHyperprior}
    model = models[settings.architecture](settings.channels, settings.latent_channels)
    crops = torch.from_numpy(pool.batch(_FIRST_CROPS, settings.crop)).float() / _LEVEL_OF_WHITE
    middle = math.prod(settings.levels) ** (1 / len(settings.levels))
    start_from_components(model, crops, first_gain(middle))
    network = GainedNetwork(model, settings.levels)
    if settings.initial:
        _restore(network, Path(settings.initial))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _steps(
    network: GainedNetwork, pool: CropPool, settings: TrainingSettings, context: RunContext
) -> Iterator[tuple[GainedNetwork, dict[str, Figure]]]:
    """Train; yield the averaged network and what is known of it at each checkpoint."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    optimiser = _optimiser(network, settings)
    rates = [group["lr"] for group in optimiser.param_groups]
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.average_decay))
    lambdas = torch.tensor(settings.levels)
    started, elapsed, step, smooth = time.monotonic(), 0.0, 0, 0.0
    next_checkpoint = settings.checkpoint_seconds
    network.train()
    while elapsed < settings.seconds:
        factor = (
            min(1.0, (step + 1) / settings.warm_up_steps)
            * 0.5
            * (1 + math.cos(math.pi * min(1.0, elapsed / settings.seconds)))
        )
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * max(factor, 0.01)
        side = settings.crop // 2 if elapsed < settings.small_part * settings.seconds else settings.crop
        pictures = torch.from_numpy(pool.batch(settings.batch, side)).float() / _LEVEL_OF_WHITE
        levels = (torch.arange(settings.batch) + step) % len(lambdas)
        outcome = network(pictures.contiguous(memory_format=torch.channels_last), levels)
        loss = (outcome.bpp + lambdas[levels] * _LEVEL_OF_WHITE**2 * outcome.mse).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_NORM)
        optimiser.step()
        average.update_parameters(network)
        step += 1
        smooth += (loss.item() - smooth) / min(step, 200)
        elapsed = time.monotonic() - started
        if step % 20 == 0:
            context.report("train", int(elapsed), int(settings.seconds), unit="s", loss=smooth)
        if elapsed >= next_checkpoint or elapsed >= settings.seconds:
            next_checkpoint += settings.checkpoint_seconds
            kept: Any = average.module
            yield kept, {"steps": step, "seconds": round(elapsed, 1), "loss": round(smooth, 4)}


def _optimiser(network: GainedNetwork, settings: TrainingSettings) -> torch.optim.Optimizer:
    prior = [value for name, value in network.named_parameters() if "entropy_bottleneck" in name]
    others = [value for name, value in network.named_parameters() if "entropy_bottleneck" not in name]
    return torch.optim.Adam(
        [{"params": others, "lr": settings.learning_rate}, {"params": prior, "lr": settings.prior_learning_rate}]
    )


@torch.no_grad()
def _measured(network: GainedNetwork, pictures: torch.Tensor, lambdas: tuple[float, ...]) -> dict[str, Figure]:
    """Rate by likelihoods and PSNR of the held-out crops at each level, with rounding."""
    if not len(pictures):
        return {}
    network.eval()
    network.model.entropy_bottleneck._update_quantiles()
    figures: dict[str, Figure] = {}
    for level in range(len(lambdas)):
        outcome = network(pictures, torch.full((len(pictures),), level), rounded=True)
        figures[f"likelihood_bpp_{level}"] = round(float(outcome.bpp.mean()), 4)
        figures[f"psnr_db_{level}"] = round(float((-10 * outcome.mse.log10()).mean()), 3)
    return figures


def _save(network: GainedNetwork, path: Path) -> None:
    from safetensors.torch import save_file

    temporary = path.with_suffix(".partial")
    # CompressAI's coding tables are empty until the conversion makes its own
    tensors = {name: value.contiguous() for name, value in network.state_dict().items() if value.numel()}
    save_file(tensors, temporary)
    temporary.replace(path)


def _ship(network: GainedNetwork, output: Path, made_by: Mapping[str, str]) -> None:
    """Write the weights that files are made with."""
    gains = network.log_gains.exp(), network.log_inverse_gains.exp()
    convert_model(network.model, output, made_by, gains=gains, half=True)


def _append(log: Path, row: Mapping[str, object]) -> None:
    with log.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
