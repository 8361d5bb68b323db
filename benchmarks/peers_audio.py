"""Audio formats through PyAV: Opus, MP3, AAC, AMR and FLAC, with the delay of each codec taken out.

Decoders skip what the file itself declares as padding. What delay remains (AMR and raw AAC declare none) is measured
once per setting on a synthetic signal, never on the recording that is scored, and applied to all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..formats.errors import UnsupportedInput
from .items import Sound
from .peers import NamedPeer, NoParams, check_range, find_peer, pyav_version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AacPeer", "AmrPeer", "FlacPeer", "Mp3Peer", "OpusPeer"]

LONGEST_DELAY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class BitRateParams:
    """``kbps`` is the nominal bit rate in kbit/s; the rate that is reported comes from the file."""

    kbps: float = 24.0

    def __post_init__(self) -> None:
        check_range("kbps", self.kbps, 1, 512)


class _AudioPeer(NamedPeer):
    kind = "audio"
    name: str
    suffix: str
    _encoder: str
    _container: str
    _container_options: ClassVar[Mapping[str, str]] = {}

    def version(self) -> str:
        return pyav_version()

    def encode(self, content: Sound, source: Path, target: Path, params: Any) -> None:
        from .audio_files import write_audio

        write_audio(
            target,
            content,
            encoder=self._encoder,
            container_format=self._container,
            bit_rate=self._bit_rate(params),
            options=self._options(params),
            container_options=self._container_options,
        )

    def decode(self, path: Path, params: Any, form: Mapping[str, int]) -> Sound:
        decoded = self._decode(path, form["rate"])
        delay = _delay(self.name, params, form["rate"], decoded.samples.shape[1])
        return Sound(_cut(decoded.samples, delay, form["samples"]), form["rate"])

    def _decode(self, path: Path, rate: int) -> Sound:
        from .audio_files import read_audio

        return read_audio(path, rate=rate)

    def _bit_rate(self, params: Any) -> int | None:
        bits_per_second: int = round(params.kbps * 1000)
        return bits_per_second

    def _options(self, params: Any) -> dict[str, str]:
        return {}


class OpusPeer(_AudioPeer):
    """Opus in Ogg, variable bit rate."""

    name = "opus"
    suffix = ".opus"
    Params = BitRateParams
    _encoder = "libopus"
    _container = "ogg"


class Mp3Peer(_AudioPeer):
    """MP3 of LAME, constant bit rate."""

    name = "mp3"
    suffix = ".mp3"
    Params = BitRateParams
    _encoder = "libmp3lame"
    _container = "mp3"
    # no tags; the frame that tells the delay stays
    _container_options: ClassVar[Mapping[str, str]] = {"id3v2_version": "0"}


class AacPeer(_AudioPeer):
    """AAC-LC in ADTS frames."""

    name = "aac"
    suffix = ".aac"
    Params = BitRateParams
    _encoder = "aac"
    _container = "adts"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmrParams:
    """The eight modes of AMR narrow band, in kbit/s."""

    kbps: Literal[4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2] = 12.2  # type: ignore[valid-type]


class AmrPeer(_AudioPeer):
    """AMR narrow band, 8 kHz mono only."""

    name = "amr"
    suffix = ".amr"
    Params = AmrParams
    _encoder = "libopencore_amrnb"
    _container = "amr"

    def encode(self, content: Sound, source: Path, target: Path, params: Any) -> None:
        if content.rate != 8000 or content.samples.shape[1] != 1:
            raise UnsupportedInput(f"AMR takes 8 kHz mono, not {content.rate} Hz with {content.samples.shape[1]}")
        super().encode(content, source, target, params)


class FlacPeer(_AudioPeer):
    """FLAC at 16 bits: lossless for 16-bit recordings."""

    name = "flac"
    suffix = ".flac"
    Params = NoParams
    _encoder = "flac"
    _container = "flac"
    # else 8 KiB are kept free for tags
    _container_options: ClassVar[Mapping[str, str]] = {"metadata_header_padding": "0"}

    def _bit_rate(self, params: NoParams) -> int | None:
        return None

    def _options(self, params: NoParams) -> dict[str, str]:
        return {"compression_level": "8"}


@lru_cache(maxsize=64)
def _delay(name: str, params: Any, rate: int, channels: int) -> int:
    """Samples by which what is decoded lags, by cross-correlation of a band of noise under a sweep."""
    import numpy as np

    codec: Any = find_peer(name)
    seconds = 1.0
    time = np.arange(round(rate * seconds)) / rate
    noise = np.convolve(np.random.default_rng(0).normal(0, 1, time.size), np.ones(5) / 5, mode="same")
    sweep = np.sin(2 * np.pi * (200 * time + (0.15 * rate - 200) / (2 * seconds) * time**2))
    signal = (0.3 * sweep + 0.15 * noise * np.hanning(time.size)).astype(np.float32)
    sound = Sound(np.repeat(signal[:, None], channels, axis=1), rate)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"delay{codec.suffix}"
        codec.encode(sound, path, path, params)
        decoded = codec._decode(path, rate).samples[:, 0]
    size = 1 << (len(signal) + len(decoded)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(signal, size)), size)
    longest = round(LONGEST_DELAY_SECONDS * rate)
    lags = np.concatenate([cross[: longest + 1], cross[-longest:]])
    found = int(np.argmax(lags))
    return found if found <= longest else found - len(lags)


def _cut(samples: NDArray[np.float32], delay: int, count: int) -> NDArray[np.float32]:
    """``count`` samples from ``delay`` on, silence where the decoder gave none; [N, channels]."""
    import numpy as np

    out = np.zeros((count, samples.shape[1]), dtype=np.float32)
    start = max(delay, 0)
    offset = start - delay
    taken = samples[start : start + count - offset]
    out[offset : offset + len(taken)] = taken
    return out
