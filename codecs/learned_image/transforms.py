"""Analysis, synthesis and hyper-analysis in floating point: what they compute decides no symbol a decoder reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from .model_file import Model

__all__ = ["Transforms"]

_LAYERS = (0, 2, 4, 6)
_LEAK = 0.01


@dataclass(frozen=True, eq=False)
class Transforms:
    """The float networks of ``model`` on a device; pictures and latents are ``[1, channels, height, width]``."""

    architecture: str
    weights: Mapping[str, torch.Tensor]
    device: str

    @classmethod
    def of(cls, model: Model, device: str) -> Transforms:
        """Weights as float32 on ``device``."""
        named = {name: array for name, array in model.tensors.items() if name.split(".")[0] in ("g_a", "g_s", "h_a")}
        return cls(model.architecture, {name: _on(array, device) for name, array in named.items()}, device)

    @torch.inference_mode()
    def analysis(self, picture: torch.Tensor) -> torch.Tensor:
        """Latents, a sixteenth of the sides, of RGB values 0 to 1 whose sides are multiples of 16."""
        signal = picture.to(self.device)
        for layer in _LAYERS:
            signal = F.conv2d(signal, *self._layer(f"g_a.{layer}"), stride=2, padding=2)
            if layer != _LAYERS[-1]:
                signal = signal * torch.rsqrt(self._energy(signal, f"g_a.{layer + 1}"))
        return signal

    @torch.inference_mode()
    def synthesis(self, latents: torch.Tensor) -> torch.Tensor:
        """RGB values, about 0 to 1, sixteen times as large as the latents."""
        signal = latents.to(self.device)
        for layer in _LAYERS:
            signal = F.conv_transpose2d(signal, *self._layer(f"g_s.{layer}"), stride=2, padding=2, output_padding=1)
            if layer != _LAYERS[-1]:
                signal = signal * torch.sqrt(self._energy(signal, f"g_s.{layer + 1}"))
        return signal

    @torch.inference_mode()
    def hyper_analysis(self, latents: torch.Tensor) -> torch.Tensor:
        """Side information, a quarter of the latents' sides, which are multiples of 4."""
        scale_only = self.architecture == "hyperprior"
        signal = latents.to(self.device).abs() if scale_only else latents.to(self.device)
        signal = F.conv2d(signal, *self._layer("h_a.0"), padding=1)
        for layer in (2, 4):
            signal = F.relu(signal) if scale_only else F.leaky_relu(signal, _LEAK)
            signal = F.conv2d(signal, *self._layer(f"h_a.{layer}"), stride=2, padding=2)
        return signal

    def _layer(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def _energy(self, signal: torch.Tensor, name: str) -> torch.Tensor:
        """What generalised divisive normalisation (Ballé et al. 2016) divides by, squared."""
        gamma = self.weights[f"{name}.gamma"][:, :, None, None]
        return F.conv2d(signal * signal, gamma, self.weights[f"{name}.beta"])


def _on(array: NDArray[Any], device: str) -> torch.Tensor:
    return torch.from_numpy(array.astype("float32")).to(device)
