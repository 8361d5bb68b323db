"""The hyper-synthesis in whole numbers: side information to table numbers and means, alike on every machine.

Activations are integers in units of 1/1024 and stay within 2^20, weights integers with a shift for each layer. A
convolution's sums are below 2^53, so that they are exact in any order; a transposed convolution of stride 2 is an
ordinary one over values with zeros between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from ...entropy import SCALE_COUNT
from ...entropy.exact.fixed_point import integer_root
from ...entropy.exact.integer_linear import IntegerConv2d, integer_conv2d, rescale
from ...formats.errors import CorruptFile, InvalidParameter
from .model_file import FRACTION_BITS, Model

__all__ = ["PROFILE", "ExactSynthesis", "scale_thresholds"]

PROFILE = "compressai-int-1"

_LIMIT = (1 << 20) - 1
_LAYERS = ("h_s.0", "h_s.2", "h_s.4")
_MAX_SHIFT = 40
_LEAK, _LEAK_BITS = 655, 16


@dataclass(frozen=True, eq=False)
class ExactSynthesis:
    """The integer network of a model with a hyperprior."""

    layers: tuple[IntegerConv2d, ...]
    shifts: tuple[int, ...]
    medians: torch.Tensor
    with_means: bool

    @classmethod
    def of(cls, model: Model) -> ExactSynthesis:
        """Raises :class:`CorruptFile` where the weights could leave the range in which sums are exact."""
        layers, shifts = [], []
        try:
            for number, name in enumerate(_LAYERS):
                weight = torch.from_numpy(model.tensors[f"{name}.weight"].astype(np.int64))
                bias = torch.from_numpy(model.tensors[f"{name}.bias"].astype(np.int64))
                doubles = number < 2
                kernel = weight.flip(2, 3).transpose(0, 1) if doubles else weight
                layers.append(integer_conv2d(kernel, bias, input_limit=_LIMIT, padding=2 if doubles else 1))
                shifts.append(int(model.tensors[f"{name}.shift"][0]))
        except (InvalidParameter, KeyError, IndexError) as error:
            raise CorruptFile(f"weights of the hyper-synthesis: {error}") from error
        with_means = model.architecture == "mean-scale"
        outputs = model.channels * (2 if with_means else 1)
        if not all(0 <= shift <= _MAX_SHIFT for shift in shifts) or len(layers[-1].linear.bias) != outputs:
            raise CorruptFile("weights of the hyper-synthesis: a shift or the number of outputs is wrong")
        medians = torch.from_numpy(model.tensors["prior.medians"].astype(np.int64))
        return cls(tuple(layers), tuple(shifts), medians, with_means)

    @torch.inference_mode()
    def __call__(self, symbols: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.int32] | None]:
        """Table numbers of the latents, and their means in 1/1024 where the model has any.

        ``symbols`` is int16 ``[side channels, height, width]``, the results are ``[channels, 4 height, 4 width]``.
        """
        signal = (torch.from_numpy(symbols.astype(np.int64)) << FRACTION_BITS) + self.medians[:, None, None]
        signal = signal.clamp(-_LIMIT, _LIMIT)[None]
        for number, (layer, shift) in enumerate(zip(self.layers, self.shifts, strict=True)):
            if number:
                signal = self._activated(signal)
            if number < 2:
                signal = _with_zeros_between(signal)
            signal = rescale(layer(signal), shift=shift, limit=_LIMIT)
        values = signal[0].numpy()
        scales = values[: len(values) // 2] if self.with_means else values
        numbers = np.searchsorted(scale_thresholds(), scales, side="right").astype(np.uint8)
        return numbers, values[len(values) // 2 :].astype(np.int32) if self.with_means else None

    def _activated(self, signal: torch.Tensor) -> torch.Tensor:
        if not self.with_means:
            return signal.clamp(min=0)
        return torch.where(signal < 0, (signal * _LEAK) >> _LEAK_BITS, signal)


@cache
def scale_thresholds() -> NDArray[np.int64]:
    """The 63 scales, in 1/1024, from which the next table is used: floor(2^(7 + (2 i + 1) / 12))."""
    return np.array([integer_root(1 << (12 * 7 + 2 * i + 1), 12) for i in range(SCALE_COUNT - 1)], np.int64)


def _with_zeros_between(signal: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = signal.shape
    spread = signal.new_zeros(batch, channels, 2 * height, 2 * width)
    spread[:, :, ::2, ::2] = signal
    return spread
