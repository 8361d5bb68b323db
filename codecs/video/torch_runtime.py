"""How torch is to run here: precision, exact float32, memory layout."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Precision", "choose_precision", "exact_float32", "use_channels_last"]

Model = TypeVar("Model", bound=nn.Module)
Precision = Literal["auto", "float32", "bfloat16"]


@contextlib.contextmanager
def exact_float32(device: str) -> Iterator[None]:
    """Convolutions in full float32 inside the block: no TF32, no search for the fastest algorithm."""
    if device != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def choose_precision(wanted: Precision, device: str) -> torch.dtype:
    """The arithmetic of the fit: bfloat16 where the processor has it and the caller did not choose otherwise.

    Weights, optimiser and loss stay in float32 either way.
    """
    if wanted == "float32":
        return torch.float32
    if wanted == "bfloat16":
        return torch.bfloat16
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else torch.float32


def use_channels_last(model: Model) -> Model:
    """Lay the weights of convolutions out for [N, H, W, C] memory, in place."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model
