"""Caches without a codec: the numbers as they are, and 8-bit integers with a scale for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .peers import NamedPeer, NoParams

__all__ = ["Int8Peer", "RawPeer"]


class RawPeer(NamedPeer):
    """The array in a .npy file, 16 or 32 bits an element."""

    name = "raw"
    kind = "tensors"
    suffix = ".npy"
    Params = NoParams

    def version(self) -> str:
        return f"numpy {version('numpy')}"

    def encode(self, content: Any, source: Path, target: Path, params: NoParams) -> None:
        import numpy as np

        np.save(target, content, allow_pickle=False)

    def decode(self, path: Path, params: NoParams, form: Mapping[str, int]) -> Any:
        import numpy as np

        return np.load(path, allow_pickle=False)


class Int8Peer(NamedPeer):
    """Symmetric 8-bit integers, one float16 scale for each vector along the last axis, in a safetensors file."""

    name = "int8"
    kind = "tensors"
    suffix = ".safetensors"
    Params = NoParams

    def version(self) -> str:
        return f"safetensors {version('safetensors')}"

    def encode(self, content: Any, source: Path, target: Path, params: NoParams) -> None:
        import numpy as np
        from safetensors.numpy import save

        values = content.astype(np.float32)
        scales = (np.abs(values).max(axis=-1, keepdims=True) / 127).astype(np.float16)
        steps = np.maximum(scales.astype(np.float32), np.finfo(np.float16).tiny)
        levels = np.clip(np.rint(values / steps), -127, 127).astype(np.int8)
        target.write_bytes(save({"levels": levels, "scales": scales}))

    def decode(self, path: Path, params: NoParams, form: Mapping[str, int]) -> Any:
        import numpy as np
        from safetensors.numpy import load

        arrays = load(path.read_bytes())
        steps = np.maximum(arrays["scales"].astype(np.float32), np.finfo(np.float16).tiny)
        return (arrays["levels"].astype(np.float32) * steps).astype(np.float32)
