"""Recognising spoken digits with a small convolutional network, trained by ``codec train spoken-digits``.

Its weights, ``spoken_digits.safetensors``, are looked for in the folder ``CODECKIT_WEIGHTS`` and in the user's cache.

The network sees the log mel spectrogram of one second at 8 kHz, 40 bands by 80 frames, normalised per recording.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..formats.errors import ExternalFailure, InvalidParameter, UnsupportedInput
from .items import Item, Sound
from .scorers import Score
from .weights import cache_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SpokenDigitsTask", "default_output", "log_mel", "make_network"]

WEIGHTS_FILE = "spoken_digits.safetensors"
RATE = 8000
BANDS = 40
FRAMES = 80
_WINDOW = 256
_HOP = RATE // FRAMES
_REVISION = 1


class SpokenDigitsTask:
    """Share of spoken digits recognised; the label is the digit."""

    name = "spoken-digits"
    title = "digits recognised"
    unit = "accuracy"
    kinds = frozenset({"audio"})
    higher_is_better = True
    is_task = True

    def version(self) -> str:
        return f"{_REVISION} {hashlib.sha256(_weights().read_bytes()).hexdigest()[:16]}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        import torch

        if item.label is None:
            raise UnsupportedInput(f"{item.name} has no label")
        with torch.inference_mode():
            scores = _trained_network()(torch.from_numpy(log_mel(decoded))[None])[0].softmax(dim=0)
        predicted = int(scores.argmax())
        detail = {"predicted": predicted, "confidence": round(float(scores.max()), 4)}
        return Score(value=float(predicted == int(item.label)), detail=detail)


def log_mel(sound: Sound) -> NDArray[np.float32]:
    """The spectrogram of the first second, float32 [40, 80], mean 0 and deviation 1.

    Raises :class:`UnsupportedInput` for another rate than 8 kHz.
    """
    import numpy as np

    if sound.rate != RATE:
        raise UnsupportedInput(f"spoken digits are recognised at {RATE} Hz, not {sound.rate}")
    padded = np.zeros(RATE + _WINDOW, dtype=np.float64)
    signal = sound.samples.mean(axis=1)[:RATE]
    padded[_WINDOW // 2 : _WINDOW // 2 + len(signal)] = signal
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:FRAMES]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2  # [frames, bins]
    bands = np.log(power @ _mel_filters().T + 1e-6).T
    normalised = (bands - bands.mean()) / (bands.std() + 1e-6)
    return np.ascontiguousarray(normalised, dtype=np.float32)


def default_output() -> Path:
    """Where the trained weights are looked for when ``CODECKIT_WEIGHTS`` names no folder."""
    return cache_folder() / "weights" / WEIGHTS_FILE


def make_network() -> Any:
    """The untrained network: float32 [N, 40, 80] to scores [N, 10]; 61,000 parameters."""
    import torch
    from torch import nn

    def block(inputs: int, outputs: int, stride: int = 1) -> list[Any]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                *block(1, 16, stride=2),
                *block(16, 32),
                nn.MaxPool2d(2),
                *block(32, 64),
                nn.MaxPool2d(2),
                *block(64, 64),
            )
            self.classify = nn.Linear(64, 10)

        def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
            features = self.layers(spectrogram[:, None])  # [N, 64, 5, 10]
            return self.classify(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]

    return Network()


@lru_cache(maxsize=1)
def _trained_network() -> Any:
    from safetensors.torch import load_file

    network = make_network()
    path = _weights()
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    expected = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    if set(state) != expected:
        raise InvalidParameter(f"{path} is not of this network")
    network.load_state_dict(state, strict=False)
    return network.eval()


def _weights() -> Path:
    folder = os.environ.get("CODECKIT_WEIGHTS")
    cached = default_output()
    places = [Path(folder) / WEIGHTS_FILE, cached] if folder else [cached]
    for path in places:
        if path.is_file():
            return path
    raise ExternalFailure(f"weights not trained yet: codec train spoken-digits --data RECORDINGS -o {cached}")


@lru_cache(maxsize=1)
def _mel_filters() -> NDArray[np.float64]:
    """Triangular filters on the mel scale from 50 Hz to 4 kHz, float64 [bands, bins]."""
    import numpy as np

    low, high = (2595 * np.log10(1 + edge / 700) for edge in (50.0, RATE / 2))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.arange(_WINDOW // 2 + 1) * RATE / _WINDOW
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    return filters
