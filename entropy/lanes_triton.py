"""The CUDA decoder and encoder of lanes: one thread a lane, in Triton.

The kernels run on a CUDA device, or on the CPU in Triton's interpreter (``TRITON_INTERPRET=1`` set
before the first import of Triton), which is slow and exists for tests.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile, DeviceUnavailable, InvalidParameter
from .decoding_tables import BUCKET_BITS, BUCKETS, aligned_entries, all_aligned
from .frequency_table import PRECISION
from .lane_block import LaneBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable
    from .lane_block import LaneClasses
    from .lane_codes import CodePlan

__all__ = ["as_device_tensor", "decode", "decode_tensor", "encode_tensor", "triton_device"]

_LANES_A_PROGRAM = 128


def triton_device() -> torch.device:
    """Where the kernels run.

    Raises:
        DeviceUnavailable: no CUDA device, and Triton's interpreter is not switched on.
    """
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return torch.device("cpu")
    raise DeviceUnavailable(
        "the triton backend needs a CUDA device and torch sees none; use backend='native', which "
        "reads and writes the same bytes"
    )


def as_device_tensor(values: Any) -> torch.Tensor:
    """``values`` [lanes, symbols] as an integer tensor on the kernels' device."""
    import torch

    device = triton_device()
    if not isinstance(values, (torch.Tensor, np.ndarray)) and len({len(lane) for lane in values}) > 1:
        raise InvalidParameter(
            "the triton backend encodes lanes of one length; use backend='native', which writes the same bytes"
        )
    tensor = values if isinstance(values, torch.Tensor) else torch.from_numpy(np.asarray(values))
    if tensor.ndim != 2 or tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise InvalidParameter(
            f"the triton backend encodes integers [lanes, symbols], got {tensor.dtype} {tuple(tensor.shape)}"
        )
    return tensor.to(device)


def decode(block: LaneBlock, lanes: NDArray[np.int64], plan: CodePlan, threads: int) -> NDArray[Any]:
    """The codes of ``lanes``, one after the other; ``threads`` does not apply."""
    codes: NDArray[Any] = decode_tensor(block, lanes, plan).cpu().numpy().view(plan.code_dtype)
    return codes


def decode_tensor(block: LaneBlock, lanes: NDArray[np.int64], plan: CodePlan) -> torch.Tensor:
    """The codes of ``lanes`` on the device: uint8, or int16 that holds the bits of uint16.

    Raises:
        CorruptFile: a lane's words do not end exactly with its symbols.
    """
    import torch

    from .triton_kernels import decode_kernel

    device = triton_device()
    counts = block.symbol_counts[lanes]
    code_type = torch.uint8 if plan.code_dtype is np.uint8 else torch.int16
    out = torch.empty(int(counts.sum()), dtype=code_type, device=device)
    status = torch.zeros(max(lanes.size, 1), dtype=torch.int32, device=device)
    if lanes.size == 0:
        return out
    aligned = all_aligned(block.tables)
    lookup = aligned_entries(block.tables, plan.codes, 16) if aligned else _first_slots(block.tables)
    stride = max(table.slots for table in block.tables)
    frequencies, starts, codes = _slot_tables(block.tables, stride, plan)
    decode_kernel[(-(-lanes.size // _LANES_A_PROGRAM),)](
        _device_words(block.words, device),
        _tensor(block.word_offsets[lanes], device),
        _tensor(block.word_offsets[lanes + 1], device),
        _tensor(counts, device),
        _tensor(np.cumsum(counts) - counts, device),
        _tensor(block.classes.offsets[lanes], device),
        _tensor(block.classes.numbers.astype(np.int32), device),
        _tensor(lookup, device),
        _tensor(frequencies, device),
        _tensor(starts, device),
        _tensor(codes, device),
        out,
        status,
        lanes.size,
        block.classes.group_size,
        stride,
        max(stride - 1, 0).bit_length(),
        aligned=aligned,
        block=_LANES_A_PROGRAM,
    )
    wrong = np.flatnonzero(status.cpu().numpy()[: lanes.size])
    if wrong.size:
        lane = int(lanes[wrong[0]])
        raise CorruptFile(
            f"lane block: the {block.word_offsets[lane + 1] - block.word_offsets[lane]} words of lane {lane} "
            f"do not end exactly with its {block.symbol_counts[lane]} symbols"
        )
    return out


def encode_tensor(
    values: torch.Tensor, tables: Sequence[FrequencyTable], classes: LaneClasses, tables_inside: bool
) -> bytes:
    """Encode ``values`` [lanes, symbols], which stay on their device, into one lane block.

    Raises:
        InvalidParameter: a value lies outside its table (the device encoder writes no escapes).
    """
    import torch

    from .triton_kernels import encode_kernel

    device = values.device
    lanes, symbols = values.shape
    counts = np.full(lanes, symbols, np.int64)
    stride = max(table.slots for table in tables)
    frequencies, starts, _ = _slot_tables(tables, stride, None)
    regular = np.array([table.slots - table.escape for table in tables], np.int32)
    capacity = symbols + 2
    words = torch.zeros(max(lanes * capacity, 1), dtype=torch.int32, device=device)
    sizes = torch.zeros(lanes, dtype=torch.int32, device=device)
    outside = torch.zeros(max(lanes, 1), dtype=torch.int32, device=device)
    if lanes:
        encode_kernel[(-(-lanes // _LANES_A_PROGRAM),)](
            values.contiguous(),
            _tensor(classes.offsets, device),
            _tensor(classes.numbers.astype(np.int32), device),
            _tensor(frequencies, device),
            _tensor(starts, device),
            _tensor(np.array([table.minimum for table in tables], np.int64), device),
            _tensor(regular, device),
            words,
            sizes,
            outside,
            lanes,
            symbols,
            min(classes.group_size, max(symbols, 1)),
            stride,
            capacity,
            block=_LANES_A_PROGRAM,
        )
    wrong = np.flatnonzero(outside.cpu().numpy())
    if wrong.size:
        raise InvalidParameter(
            f"lane {int(wrong[0])} holds values outside its table, which the triton encoder cannot "
            f"escape; use backend='native'"
        )
    used = torch.arange(capacity, device=device)[None, :] < sizes[:, None]
    packed = words[: lanes * capacity].view(lanes, capacity)[used].cpu().numpy().view(np.uint32)
    offsets = np.zeros(lanes + 1, np.int64)
    np.cumsum(sizes.cpu().numpy(), out=offsets[1:])
    return LaneBlock(
        tables=tuple(tables),
        classes=classes,
        symbol_counts=counts,
        word_offsets=offsets,
        words=packed,
        escape_counts=np.zeros(lanes, np.int64),
        escape_offsets=np.zeros(lanes + 1, np.int64),
        escapes=memoryview(b""),
        tables_inside=tables_inside,
    ).to_bytes()


def _tensor(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _device_words(words: NDArray[np.uint32], device: torch.device) -> torch.Tensor:
    # torch computes little on uint32; the kernel masks the sign extension away.
    padded = np.zeros(words.size + 1, np.int32)
    padded[:-1] = words.astype(np.uint32).view(np.int32)
    return _tensor(padded, device)


def _first_slots(tables: Sequence[FrequencyTable]) -> NDArray[np.int64]:
    """[tables * 4096]: the first slot that reaches into each bucket of 2**12 quantiles."""
    edges = np.arange(BUCKETS, dtype=np.int64) << (PRECISION - BUCKET_BITS)
    first = np.empty((len(tables), BUCKETS), np.int64)
    for row, table in zip(first, tables, strict=True):
        row[:] = np.searchsorted(table.cumulative[:-1], edges, side="right") - 1
    return first.ravel()


def _slot_tables(
    tables: Sequence[FrequencyTable], stride: int, plan: CodePlan | None
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """[tables * stride] each: frequencies, cumulative frequencies and codes of the slots.

    Slots that a table does not have begin at ``2**24``, beyond every quantile.
    """
    frequencies = np.ones((len(tables), stride), np.int32)
    starts = np.full((len(tables), stride), 1 << PRECISION, np.int32)
    codes = np.zeros((len(tables), stride), np.int32)
    for number, table in enumerate(tables):
        frequencies[number, : table.slots] = table.frequencies
        starts[number, : table.slots] = table.cumulative[:-1]
        if plan is not None:
            codes[number, : table.slots] = plan.codes[number]
    return frequencies.ravel(), starts.ravel(), codes.ravel()
