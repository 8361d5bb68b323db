"""Resumable state of a fit: one safetensors file whose metadata says which fit it belongs to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from ...formats.atomic_file import AtomicFile
from ...formats.errors import CorruptFile, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Checkpoint", "fingerprint", "load_checkpoint", "load_result", "save_checkpoint", "save_result"]

_FILE = "fit.safetensors"
_RESULT_FILE = "result.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state after ``step`` steps: parameters and both moments of Adam, by name.

    ``caution`` is what the learning rate is multiplied by since the fit last diverged.
    """

    step: int
    caution: float
    parameters: dict[str, torch.Tensor]
    first_moments: dict[str, torch.Tensor]
    second_moments: dict[str, torch.Tensor]


def fingerprint(pictures: NDArray[np.uint8], settings: Mapping[str, object]) -> str:
    """SHA-256 of the pictures and of everything that steers the fit."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(repr(pictures.shape).encode())
    for picture in pictures:
        digest.update(picture.tobytes())
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint, identity: str) -> None:
    """Replace the state in ``folder`` atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = {
        "parameter": checkpoint.parameters,
        "first": checkpoint.first_moments,
        "second": checkpoint.second_moments,
    }
    tensors = {
        f"{group}:{name}": value.detach().cpu().contiguous()
        for group, values in groups.items()
        for name, value in values.items()
    }
    metadata = {"fingerprint": identity, "step": str(checkpoint.step), "caution": repr(checkpoint.caution)}
    with AtomicFile(folder / _FILE, overwrite=True) as file:
        file.write(safetensors.torch.save(tensors, metadata))
        file.commit()


def load_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The state kept in ``folder``, None where there is none.

    Raises :class:`InvalidParameter` when it belongs to another clip or other settings, :class:`CorruptFile`.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    groups: dict[str, dict[str, torch.Tensor]] = {"parameter": {}, "first": {}, "second": {}}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                group, _, name = key.partition(":")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (safetensors.SafetensorError, OSError) as error:
        raise CorruptFile(f"{path} is damaged ({error}); delete it and start over") from error
    if metadata.get("fingerprint") != identity:
        raise InvalidParameter(
            f"{path} belongs to another clip or other settings; repeat those, or start over without resuming"
        )
    return Checkpoint(
        step=int(metadata["step"]),
        caution=float(metadata["caution"]),
        parameters=groups["parameter"],
        first_moments=groups["first"],
        second_moments=groups["second"],
    )


def save_result(folder: Path, pieces: Mapping[str, bytes], identity: str) -> None:
    """Keep finished work in ``folder``, so that a later run need not repeat it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.frombuffer(bytearray(piece), dtype=torch.uint8) for name, piece in pieces.items()}
    with AtomicFile(folder / _RESULT_FILE, overwrite=True) as file:
        file.write(safetensors.torch.save(tensors, {"fingerprint": identity}))
        file.commit()


def load_result(folder: Path, identity: str) -> dict[str, bytes] | None:
    """What :func:`save_result` kept, None where there is nothing of this identity; raises :class:`CorruptFile`."""
    path = folder / _RESULT_FILE
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("fingerprint") != identity:
                return None
            return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CorruptFile(f"{path} is damaged ({error}); delete it and start over") from error
