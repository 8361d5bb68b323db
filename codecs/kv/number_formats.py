"""float32 from and to the types caches are stored in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter
from ...formats.tensors import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_finite", "from_float32", "from_float32_clipped", "to_float32"]

_LARGEST = {"F16": 65504.0, "BF16": 3.0e38, "F32": 3.0e38}


def to_float32(tensor: Tensor) -> NDArray[np.float32]:
    """The values of an F32, F16 or BF16 tensor, exactly."""
    if tensor.dtype == "BF16":
        return (tensor.data.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return tensor.data.astype(np.float32)


def from_float32(values: NDArray[np.float32], dtype: str) -> Tensor:
    """Round to nearest, ties to even; raises :class:`InvalidParameter` where float16 would overflow."""
    if dtype == "F32":
        return Tensor(dtype=dtype, data=np.ascontiguousarray(values, np.float32))
    if dtype == "F16":
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise InvalidParameter("decoded values exceed float16; decode to bf16 or fp32")
        return Tensor(dtype=dtype, data=half)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return Tensor(dtype="BF16", data=rounded.astype(np.uint16))


def from_float32_clipped(values: NDArray[np.float32], dtype: str) -> Tensor:
    """As :func:`from_float32`; what an error of quantisation pushed out of the type's range becomes the end of it."""
    return from_float32(np.clip(values, -_LARGEST[dtype], _LARGEST[dtype]), dtype)


def check_finite(values: NDArray[Any], where: str, *, first_token: int = 0) -> None:
    """Raise :class:`InvalidParameter` naming head, token and channel of the first NaN or infinity.

    ``values`` is [heads, tokens, width], of the tokens from ``first_token`` on.
    """
    # a sum is finite only if every term is, up to overflow, which the full search then clears
    if np.isfinite(values.sum(dtype=np.float64)):
        return
    wrong = np.argwhere(~np.isfinite(values))
    if wrong.size:
        head, token, channel = wrong[0].tolist()
        kind = "NaN" if np.isnan(values[head, token, channel]) else "infinity"
        raise InvalidParameter(
            f"{where} holds {kind} at head {head}, token {first_token + token}, channel {channel} "
            f"({len(wrong):,} such values); a cache with it cannot be used, recompute it"
        )
