"""``codec train spoken-digits``: the recipe of the packaged network, also for recordings that went through a codec.

Recordings are named ``{digit}_{speaker}_{index}.wav``; index 0 to 4 is the test split and never trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import codeckit

from ..formats.atomic_file import AtomicFile
from ..formats.errors import InvalidParameter
from .audio_files import read_audio
from .items import Sound
from .peers import content_form, find_peer, peer_parameters
from .provenance import provenance
from .spoken_digits import default_output, log_mel, make_network
from .statistics import wilson

if TYPE_CHECKING:
    import torch

__all__ = ["train", "train_network"]

EPOCHS = 10
BATCH = 64
PEAK_RATE = 4e-3
_TEST_INDICES = range(5)


def train(
    data: Sequence[Path], output: Path, settings: Mapping[str, str], context: codeckit.RunContext
) -> dict[str, Any]:
    """Train the recogniser of spoken digits (data: a folder of recordings; epochs=, limit=, codec= and its own)."""
    given = dict(settings)
    epochs, limit = int(given.pop("epochs", EPOCHS)), int(given.pop("limit", 0))
    if epochs < 1 or limit < 0:
        raise InvalidParameter(f"epochs={epochs} must be at least 1 and limit={limit} at least 0, which is all")
    codec = given.pop("codec", None)
    if given and codec is None:
        raise InvalidParameter(
            f"no setting is called {', '.join(sorted(given))}; there are epochs, limit, codec and its own"
        )
    if len(data) != 1 or not data[0].is_dir():
        raise InvalidParameter("give --data FOLDER with recordings named {digit}_{speaker}_{index}.wav")
    paths = sorted(data[0].glob("*_*_*.wav"))
    training = [path for path in paths if _index(path) not in _TEST_INDICES]
    if 0 < limit < len(training):
        training = [training[number * len(training) // limit] for number in range(limit)]
    if not training:
        raise InvalidParameter(f"{data[0]} holds no training recording")
    if output.parent == default_output().parent:
        output.parent.mkdir(parents=True, exist_ok=True)
    elif not output.parent.is_dir():
        raise InvalidParameter(f"{output}: the folder does not exist; create it first")
    sounds = [read_audio(path) for path in training]
    if codec is not None:
        sounds = _through_codec(sounds, codec, given, context)
    network, accuracy = train_network(sounds, [int(path.name[0]) for path in training], epochs, context)
    tested = [path for path in paths if _index(path) in _TEST_INDICES]
    right = _recognised(network, [read_audio(path) for path in tested], [int(path.name[0]) for path in tested])
    _save(network, output)
    through = [f"{name}={value}" for name, value in given.items()]
    interval = wilson(sum(right), len(right)) if right else None
    return {
        "benchmark": "spoken-digits-training",
        "trained_on": "clean recordings" if codec is None else " ".join([codec, *through]),
        "recordings": len(sounds),
        "epochs": epochs,
        "training_accuracy": round(accuracy, 4),
        "test_recordings": len(tested),
        "test_accuracy": round(sum(right) / max(1, len(right)), 4),
        "interval": f"[{interval.low:.3f}, {interval.high:.3f}]" if interval is not None else "",
        **provenance(),
    }


def train_network(
    sounds: Sequence[Sound], digits: Sequence[int], epochs: int, context: codeckit.RunContext
) -> tuple[Any, float]:
    """A trained network and its accuracy in the last epoch; recordings are shifted in time by up to 5 frames."""
    import numpy as np
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(context.seed)
    generator = np.random.default_rng(context.seed)
    features = torch.from_numpy(np.stack([log_mel(sound) for sound in sounds]))
    targets = torch.tensor(list(digits))
    network = make_network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    batches = -(-len(targets) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=epochs * batches)
    right = 0
    for epoch in range(epochs):
        right = 0
        for rows in torch.from_numpy(generator.permutation(len(targets))).split(BATCH):
            shifted = torch.roll(features[rows], int(generator.integers(-5, 6)), dims=2)
            scores = network(shifted + 0.1 * torch.randn_like(shifted))
            loss = cross_entropy(scores, targets[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            right += int((scores.argmax(dim=1) == targets[rows]).sum())
        context.report("training", epoch + 1, epochs, unit="epochs", accuracy=right / len(targets))
    return network.eval(), right / len(targets)


def _recognised(network: Any, sounds: Sequence[Sound], digits: Sequence[int]) -> list[bool]:
    import torch

    with torch.inference_mode():
        return [
            int(network(torch.from_numpy(log_mel(sound))[None])[0].argmax()) == digit
            for sound, digit in zip(sounds, digits, strict=True)
        ]


def _through_codec(
    sounds: Sequence[Sound], codec: str, settings: Mapping[str, str], context: codeckit.RunContext
) -> list[Sound]:
    peer = find_peer(codec)
    params = peer_parameters(peer, None, settings)
    decoded = []
    with TemporaryDirectory(prefix="codec-train-") as folder:
        target = Path(folder) / f"sound{peer.suffix}"
        for number, sound in enumerate(sounds):
            peer.encode(sound, target, target, params)
            decoded.append(peer.decode(target, params, content_form("audio", sound)))
            target.unlink()
            context.report("coding", number + 1, len(sounds), unit="recordings")
    return decoded


def _save(network: Any, output: Path) -> None:
    """The weights as 16-bit floats: what is shipped is what was tested to four digits."""
    from safetensors.torch import save

    state: dict[str, torch.Tensor] = {
        name: tensor.half().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    with AtomicFile(output, overwrite=True) as file:
        file.stream.write(save(state))
        file.commit()


def _index(path: Path) -> int:
    number = path.stem.rpartition("_")[2]
    return int(number) if number.isdecimal() else -1
