"""From a trained checkpoint to the integer weights that ``pc`` uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..protocol import Figure
from .integer_network import converted, save_integer_network
from .pyramid_training import load_network

__all__ = ["ship"]


def ship(checkpoint: Path, output: Path) -> Mapping[str, Figure]:
    """Convert the float weights in ``checkpoint`` to integers in ``output``."""
    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as opened:
        metadata = opened.metadata() or {}
    network = converted(load_network(checkpoint))
    made_by = {name: metadata[name] for name in ("steps", "seed") if name in metadata}
    save_integer_network(network, output, made_by)
    return {"digest": network.digest, "size_bytes": output.stat().st_size}
