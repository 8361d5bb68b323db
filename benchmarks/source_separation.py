"""Music separated into its sources by Hybrid Demucs (Défossez 2021), with the weights that torchaudio downloads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..formats.errors import ExternalFailure
from .items import Item, Sound
from .metrics_audio import ratio_db
from .scorers import Score

__all__ = ["DemucsConsistency"]

_REVISION = 1


class DemucsConsistency:
    """Mean over the sources of the signal-to-distortion ratio against what is separated from the original, dB."""

    name = "hdemucs"
    title = "agreement of Hybrid Demucs with itself on the originals"
    unit = "dB"
    kinds = frozenset({"audio"})
    higher_is_better = True
    is_task = True

    def __init__(self) -> None:
        self._original: tuple[str, Any] | None = None

    def version(self) -> str:
        load_demucs()
        return f"{_REVISION} HDEMUCS_HIGH_MUSDB_PLUS"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        import numpy as np

        key = str(item.path)
        if self._original is None or self._original[0] != key:
            self._original = (key, _separate(original))
        expected, found = self._original[1], _separate(decoded)
        return Score(value=float(np.mean([ratio_db(one, one - two) for one, two in zip(expected, found, strict=True)])))


@lru_cache(maxsize=1)
def load_demucs() -> tuple[Any, int]:
    """The network and its sampling rate; raises :class:`ExternalFailure` when the weights cannot be had."""
    from torchaudio.pipelines import HDEMUCS_HIGH_MUSDB_PLUS as BUNDLE

    try:
        return BUNDLE.get_model().eval(), BUNDLE.sample_rate
    except OSError as error:
        raise ExternalFailure(f"weights unobtainable: those of Hybrid Demucs do not download: {error}") from error


def _separate(sound: Sound) -> Any:
    """Float64 [sources, channels, N] at the network's rate."""
    import torch
    from torchaudio.functional import resample

    network, rate = load_demucs()
    signal = torch.from_numpy(sound.samples.T.copy())
    signal = resample(signal.expand(2, -1) if signal.shape[0] == 1 else signal, sound.rate, rate)
    mean, deviation = signal.mean(), signal.std() + 1e-8
    with torch.inference_mode():
        sources = network(((signal - mean) / deviation)[None])[0]
    return (sources * deviation + mean).double().numpy()
