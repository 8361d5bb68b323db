"""Where the weights that come with the package lie."""

from __future__ import annotations

from pathlib import Path

__all__ = ["packaged_circuit_path", "packaged_network_path"]

_FOLDER = Path(__file__).parent


def packaged_circuit_path() -> Path:
    """The circuit of ``pc-grey`` for handwritten digits, 28x28 pixels."""
    return _FOLDER / "digits.safetensors"


def packaged_network_path() -> Path:
    """The integer network of ``pc``."""
    return _FOLDER / "photographs.safetensors"
