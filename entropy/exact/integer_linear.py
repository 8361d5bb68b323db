"""Integer linear and convolution layers that give the same integers everywhere.

A sum of integers is exact in any order as long as no partial sum leaves the range in which the
arithmetic is exact: ``2**31`` for int8 products accumulated in int32, ``2**24`` for float32,
``2**53`` for float64. No partial sum can exceed the largest L1 norm of a row of the weights times
the largest input magnitude, so that product is computed from the actual weights and decides the
arithmetic. Convolution gathers its windows and multiplies matrices; Winograd and Fourier
algorithms, which round, are never reached, and reduced-precision modes are switched off.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ...formats.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Accumulation", "IntegerConv2d", "IntegerLinear", "integer_conv2d", "integer_linear", "rescale"]

Accumulation = Literal["int8", "float32", "float64"]

_LIMITS: dict[str, int] = {"int8": 1 << 31, "float32": 1 << 24, "float64": 1 << 53}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerLinear:
    """``x @ weight.T + bias`` in exact integers. Build it with :func:`integer_linear`.

    Attributes:
        weight: int64 [outputs, inputs].
        bias: int64 [outputs].
        input_limit: inputs lie in ``-input_limit .. input_limit``.
        bound: no partial sum of products exceeds this magnitude.
        accumulation: the arithmetic that is exact for ``bound``.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    input_limit: int
    bound: int
    accumulation: Accumulation

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply to integers [..., inputs]; returns int64 [..., outputs] on the same device.

        Raises:
            InvalidParameter: the inputs are not integers, or exceed ``input_limit``.
        """
        _check_inputs(inputs, self.weight.shape[1], self.input_limit)
        flat = inputs.reshape(-1, inputs.shape[-1])
        sums = _product(flat, self.weight.to(inputs.device), self.accumulation)
        outputs = sums + self.bias.to(inputs.device)
        return outputs.reshape(*inputs.shape[:-1], self.weight.shape[0])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerConv2d:
    """A two-dimensional convolution in exact integers. Build it with :func:`integer_conv2d`."""

    linear: IntegerLinear
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply to integers [batch, channels, height, width]; returns int64 [batch, outputs, ...]."""
        (rows, columns), (down, across) = self.padding, self.stride
        padded = torch.nn.functional.pad(inputs, (columns, columns, rows, rows))
        windows = padded.unfold(2, self.kernel[0], down).unfold(3, self.kernel[1], across)
        # [batch, channels, height, width, kernel rows, kernel columns] -> one row for each position
        patches = windows.permute(0, 2, 3, 1, 4, 5).flatten(3)
        return self.linear(patches).permute(0, 3, 1, 2)


def integer_linear(
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    input_limit: int,
    accumulation: Accumulation | None = None,
) -> IntegerLinear:
    """Prepare a linear layer for inputs in ``-input_limit .. input_limit``.

    Args:
        weight: integers [outputs, inputs].
        bias: integers [outputs], or ``None``.
        accumulation: force one of the exact arithmetics; default: the fastest that is exact.

    Raises:
        InvalidParameter: not integers, or the sums can leave the range of exact arithmetic.
    """
    if weight.ndim != 2 or not _is_integer(weight) or (bias is not None and not _is_integer(bias)):
        raise InvalidParameter(f"weights must be integers [outputs, inputs], got {weight.dtype} {weight.shape}")
    if input_limit < 0:
        raise InvalidParameter(f"input_limit must not be negative, got {input_limit}")
    wide = weight.to(torch.int64)
    lowest, highest = (int(v) for v in wide.aminmax()) if wide.numel() else (0, 0)
    largest = max(-lowest, highest)
    if largest * weight.shape[1] >= 1 << 62:
        raise InvalidParameter(f"weights of up to {largest} are too large: their sums do not fit 64 bits")
    bound = input_limit * (int(wide.abs().sum(1).max()) if wide.numel() else 0)
    fitting: list[Accumulation] = []
    if input_limit <= 127 and largest <= 127 and bound < _LIMITS["int8"]:
        fitting.append("int8")
    if bound < _LIMITS["float32"]:
        fitting.append("float32")
    if bound < _LIMITS["float64"]:
        fitting.append("float64")
    if not fitting or (accumulation is not None and accumulation not in fitting):
        raise InvalidParameter(
            f"sums of up to {bound} are not exact in {accumulation or 'any arithmetic'} (exact here: "
            f"{', '.join(fitting) or 'none'}); use smaller weights or inputs"
        )
    offsets = torch.zeros(weight.shape[0], dtype=torch.int64) if bias is None else bias.to(torch.int64)
    return IntegerLinear(
        weight=wide,
        bias=offsets,
        input_limit=input_limit,
        bound=bound,
        accumulation=accumulation or fitting[0],
    )


def integer_conv2d(
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    input_limit: int,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    accumulation: Accumulation | None = None,
) -> IntegerConv2d:
    """Prepare a convolution with ``weight`` [outputs, channels, rows, columns]; zeros pad the edges."""
    if weight.ndim != 4:
        raise InvalidParameter(f"weights must be [outputs, channels, rows, columns], got {tuple(weight.shape)}")
    linear = integer_linear(weight.flatten(1), bias, input_limit=input_limit, accumulation=accumulation)
    return IntegerConv2d(
        linear=linear,
        kernel=(weight.shape[2], weight.shape[3]),
        stride=(stride, stride) if isinstance(stride, int) else stride,
        padding=(padding, padding) if isinstance(padding, int) else padding,
    )


def rescale(values: torch.Tensor, *, shift: int, limit: int, multiplier: int = 1) -> torch.Tensor:
    """``values * multiplier / 2**shift`` rounded to nearest (halves up), held to ``-limit .. limit``.

    The way back from accumulated sums to activations of known range; int64 in and out.
    """
    if shift < 0 or limit < 0:
        raise InvalidParameter(f"shift and limit must not be negative, got {shift} and {limit}")
    half = (1 << shift) >> 1
    return ((values.to(torch.int64) * multiplier + half) >> shift).clamp(-limit, limit)


def _is_integer(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _check_inputs(inputs: torch.Tensor, width: int, limit: int) -> None:
    if not _is_integer(inputs) or inputs.shape[-1] != width:
        raise InvalidParameter(f"inputs must be integers [..., {width}], got {inputs.dtype} {tuple(inputs.shape)}")
    if inputs.numel() == 0:
        return
    lowest, highest = (int(v) for v in inputs.aminmax())
    if lowest < -limit or highest > limit:
        raise InvalidParameter(f"inputs reach {lowest}..{highest}, declared are -{limit}..{limit}")


def _product(inputs: torch.Tensor, weight: torch.Tensor, accumulation: Accumulation) -> torch.Tensor:
    """``inputs`` [rows, inner] times ``weight`` [outputs, inner] transposed, as int64."""
    if accumulation == "int8":
        return _int8_product(inputs.to(torch.int8), weight.to(torch.int8)).to(torch.int64)
    dtype = torch.float32 if accumulation == "float32" else torch.float64
    with _full_precision(inputs.device.type):
        return torch.matmul(inputs.to(dtype), weight.to(dtype).T).to(torch.int64)


def _int8_product(inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """CUDA wants more than 16 rows and the other axes in multiples of 8; zeros fill up."""
    rows, inner = inputs.shape
    outputs = weight.shape[0]
    if rows == 0 or inner == 0 or outputs == 0:
        return torch.zeros(rows, outputs, dtype=torch.int32, device=inputs.device)
    if inputs.is_cuda:
        inputs = torch.nn.functional.pad(inputs, (0, -inner % 8, 0, max(17 - rows, 0)))
        weight = torch.nn.functional.pad(weight, (0, -inner % 8, 0, -outputs % 8))
    return torch._int_mm(inputs.contiguous(), weight.T.contiguous())[:rows, :outputs]


@contextmanager
def _full_precision(device_type: str) -> Iterator[None]:
    """No autocast, no TF32, no bfloat16 inside float32 products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type=device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
