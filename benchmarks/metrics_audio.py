"""Distortion of recordings, in dB; identical recordings count as 100 dB."""

from __future__ import annotations

from typing import Any

from ..formats.errors import UnsupportedInput
from .scorers import Metric

__all__ = ["LOG_SPECTRAL_DISTANCE", "SI_SDR", "SNR", "ratio_db"]

IDENTICAL_DB = 100.0
_AUDIO = frozenset({"audio"})


def snr_db(original: Any, decoded: Any) -> float:
    """Energy of the recording over the energy of the error."""
    one, two = _pair(original, decoded)
    return ratio_db(one, one - two)


def si_sdr_db(original: Any, decoded: Any) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019)."""
    one, two = _pair(original, decoded)
    energy = float((one * one).sum())
    if energy == 0:
        raise UnsupportedInput("the scale-invariant ratio of silence is not defined")
    target = one * (float((one * two).sum()) / energy)
    return ratio_db(target, two - target)


def log_spectral_distance_db(original: Any, decoded: Any) -> float:
    """Root mean square difference of log power spectra, 32 ms frames, mean over frames (Gray and Markel 1976)."""
    import numpy as np

    one, two = _pair(original, decoded)
    window = round(0.032 * original.rate)
    if one.shape[0] < window:
        raise UnsupportedInput(f"the recording is shorter than {window} samples")
    spectra = []
    for signal in (one, two):
        frames = np.lib.stride_tricks.sliding_window_view(signal.mean(axis=1), window)[:: window // 2]
        power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
        # the floor is the quantisation noise of 16 bits: below it nothing was recorded
        spectra.append(10 * np.log10(power + window / (12 * 32768**2)))
    return float(np.mean(np.sqrt(np.mean((spectra[0] - spectra[1]) ** 2, axis=1))))


def ratio_db(signal: Any, error: Any) -> float:
    """Energy of ``signal`` over energy of ``error``, at most 100 dB."""
    import numpy as np

    signal_energy, error_energy = float((signal * signal).sum()), float((error * error).sum())
    if error_energy == 0:
        return IDENTICAL_DB
    if signal_energy == 0:
        raise UnsupportedInput("a ratio to the error of silence is not defined")
    return min(IDENTICAL_DB, float(10 * np.log10(signal_energy / error_energy)))


def _pair(original: Any, decoded: Any) -> tuple[Any, Any]:
    """Both as float64 [N, channels]."""
    import numpy as np

    one, two = original.samples.astype(np.float64), decoded.samples.astype(np.float64)
    if one.shape != two.shape:
        raise UnsupportedInput(f"the original is {one.shape}, what was decoded {two.shape}")
    return one, two


SNR = Metric(name="snr_db", title="SNR", unit="dB", kinds=_AUDIO, higher_is_better=True, function=snr_db)
SI_SDR = Metric(name="si_sdr_db", title="SI-SDR", unit="dB", kinds=_AUDIO, higher_is_better=True, function=si_sdr_db)
LOG_SPECTRAL_DISTANCE = Metric(
    name="log_spectral_distance_db",
    title="log-spectral distance",
    unit="dB",
    kinds=_AUDIO,
    higher_is_better=False,
    function=log_spectral_distance_db,
)
