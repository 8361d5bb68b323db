"""Speech recognised by wav2vec 2.0 (Baevski et al. 2020), with the weights that torchaudio downloads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..formats.errors import ExternalFailure
from .items import Item, Sound
from .scorers import Score

__all__ = ["Wav2Vec2Consistency", "agreement"]

_REVISION = 1
_RATE = 16_000


class Wav2Vec2Consistency:
    """Agreement of the letters heard with those heard in the original: 1 less the letter error rate, at least 0."""

    name = "wav2vec2"
    title = "agreement of wav2vec 2.0 with itself on the originals"
    unit = "letters"
    kinds = frozenset({"audio"})
    higher_is_better = True
    is_task = True

    def __init__(self) -> None:
        self._original: tuple[str, str] | None = None

    def version(self) -> str:
        load_wav2vec2()
        return f"{_REVISION} WAV2VEC2_ASR_BASE_960H"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        key = str(item.path)
        if self._original is None or self._original[0] != key:
            self._original = (key, _transcribe(original))
        heard = _transcribe(decoded)
        return Score(value=agreement(self._original[1], heard), detail={"heard": heard})


def agreement(expected: str, found: str) -> float:
    """1 less the edits from ``expected`` to ``found`` over the length of ``expected``, at least 0."""
    from torchaudio.functional import edit_distance

    if not expected:
        return float(not found)
    return max(0.0, 1 - float(edit_distance(expected, found)) / len(expected))


@lru_cache(maxsize=1)
def load_wav2vec2() -> tuple[Any, tuple[str, ...]]:
    """The network and its letters; raises :class:`ExternalFailure` when the weights cannot be had."""
    from torchaudio.pipelines import WAV2VEC2_ASR_BASE_960H as BUNDLE

    try:
        return BUNDLE.get_model().eval(), BUNDLE.get_labels()
    except OSError as error:
        raise ExternalFailure(f"weights unobtainable: those of wav2vec 2.0 do not download: {error}") from error


def _transcribe(sound: Sound) -> str:
    import torch
    from torchaudio.functional import resample

    network, letters = load_wav2vec2()
    signal = torch.from_numpy(sound.samples.mean(axis=1))[None]
    with torch.inference_mode():
        scores, _ = network(resample(signal, sound.rate, _RATE))
    # connectionist temporal classification: repeated letters are one, letter 0 is a blank
    spoken = scores[0].argmax(dim=-1).unique_consecutive().tolist()
    return "".join(letters[number] for number in spoken if number != 0).replace("|", " ").strip()
