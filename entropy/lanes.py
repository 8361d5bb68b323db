"""Lane blocks: many independent ANS streams, coded side by side.

One bitstream, several decoders. ``backend="constriction"`` is the reference, ``"native"`` runs
compiled loops on all cores, ``"triton"`` runs on a CUDA device; all of them write and read the
same bytes. ``"auto"`` takes the device the data is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..formats.errors import InvalidParameter
from .escapes import pack_escapes
from .lane_arguments import flatten_lanes, lane_classes, lane_numbers
from .lane_block import (
    DEFAULT_MAX_SYMBOLS,
    MAX_TABLES,
    LaneBlock,
    LaneClasses,
)
from .lane_codes import plan_codes, values_of_block
from .lane_slots import slots_of_values
from .lane_threads import in_threads, lane_ranges, thread_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import ArrayLike, NDArray

    from .frequency_table import FrequencyTable

__all__ = ["Backend", "decode_lane_list", "decode_lanes", "decode_lanes_tensor", "encode_lanes"]

Backend = Literal["auto", "constriction", "native", "triton"]

_BATCH_SYMBOLS = 1 << 20


def encode_lanes(
    values: NDArray[Any] | torch.Tensor | Sequence[ArrayLike],
    tables: Sequence[FrequencyTable],
    *,
    classes: ArrayLike | None = None,
    group_size: int | None = None,
    tables_inside: bool = True,
    backend: Backend = "auto",
    threads: int | None = None,
) -> bytes:
    """Encode lanes of integers into one lane block.

    Args:
        values: integers [lanes, symbols], or one flat array for each lane. Values outside their
            table's range escape. A CUDA tensor is encoded on its device.
        tables: at most 4,096 of them.
        classes: which table each lane uses, [lanes]; or each group of each lane, [lanes, groups];
            or each group of every lane, [1, groups]. ``None`` when there is just one table.
        group_size: symbols per group, when ``classes`` has two axes.
        tables_inside: whether the block carries its tables. If not, the decoder must be given them.
        backend: see the module; every backend writes the same bytes.
        threads: at most this many threads; default: as many as there are usable cores.

    Returns:
        The block, about 35 bits a lane above the ideal code length.

    Raises:
        InvalidParameter: values, tables or classes do not fit together.
        DeviceUnavailable: ``backend="triton"`` without a CUDA device.
    """
    tables = tuple(tables)
    if not 1 <= len(tables) <= MAX_TABLES:
        raise InvalidParameter(f"a lane block takes 1 to {MAX_TABLES} tables, got {len(tables)}")
    if backend == "triton" or (backend == "auto" and getattr(values, "is_cuda", False)):
        from . import lanes_triton

        tensor = lanes_triton.as_device_tensor(values)
        counts = np.full(tensor.shape[0], tensor.shape[1], np.int64)
        chosen = lane_classes(classes, group_size, counts, len(tables))
        return lanes_triton.encode_tensor(tensor, tables, chosen, tables_inside)
    flat, counts = flatten_lanes(values)
    chosen = lane_classes(classes, group_size, counts, len(tables))
    workers = thread_count(threads) if _resolve(backend) == "native" else 1
    ends = np.concatenate([[0], np.cumsum(counts)])

    encoder = _module(backend).prepare_encoder(tables)

    def encode_batch(first: int, last: int) -> _EncodedLanes:
        part = LaneClasses(numbers=chosen.numbers, offsets=chosen.offsets[first:last], group_size=chosen.group_size)
        slots, escapes = slots_of_values(flat[ends[first] : ends[last]], counts[first:last], part, tables)
        words, sizes = encoder(slots, counts[first:last], part)
        return words, sizes, {first + lane: codes for lane, codes in escapes.items()}

    ranges = lane_ranges(counts, workers, most_symbols=_BATCH_SYMBOLS)
    parts = in_threads(encode_batch, ranges, workers)
    return _assemble(parts, counts, chosen, tables, tables_inside)


def decode_lanes(
    data: bytes | memoryview,
    *,
    tables: Sequence[FrequencyTable] | None = None,
    lanes: ArrayLike | slice | None = None,
    backend: Backend = "auto",
    threads: int | None = None,
    max_symbols: int = DEFAULT_MAX_SYMBOLS,
) -> NDArray[Any]:
    """Decode lanes that all have the same number of symbols.

    Args:
        data: one block, as :func:`encode_lanes` wrote it.
        tables: the tables, if the block was written without them.
        lanes: which lanes, as numbers in any order or as a slice; default: all.
        backend: see the module; every backend returns the same integers.
        threads: at most this many threads; default: as many as there are usable cores.
        max_symbols: the most symbols the block may promise.

    Returns:
        [lanes, symbols], in the first of uint8, int8, uint16 and int16 that holds every table's
        range; int64 where none does or where the block holds escapes.

    Raises:
        CorruptFile: the block is malformed; the message names the lane where there is one.
        LimitExceeded: the block promises more than ``max_symbols``.
        InvalidParameter: the lanes differ in length (use :func:`decode_lane_list`).
        DeviceUnavailable: ``backend="triton"`` without a CUDA device.
    """
    block = LaneBlock.from_bytes(data, tables=tables, max_symbols=max_symbols)
    chosen = lane_numbers(block, lanes)
    count = _common_count(block, chosen)
    return _decode(block, chosen, backend, threads).reshape(chosen.size, count)


def decode_lane_list(
    data: bytes | memoryview,
    *,
    tables: Sequence[FrequencyTable] | None = None,
    lanes: ArrayLike | slice | None = None,
    backend: Backend = "auto",
    threads: int | None = None,
    max_symbols: int = DEFAULT_MAX_SYMBOLS,
) -> list[NDArray[Any]]:
    """Like :func:`decode_lanes` for lanes of any lengths: one flat array for each."""
    block = LaneBlock.from_bytes(data, tables=tables, max_symbols=max_symbols)
    chosen = lane_numbers(block, lanes)
    values = _decode(block, chosen, backend, threads)
    return np.split(values, np.cumsum(block.symbol_counts[chosen])[:-1]) if chosen.size else []


def decode_lanes_tensor(
    data: bytes | memoryview,
    *,
    device: torch.device | str,
    tables: Sequence[FrequencyTable] | None = None,
    lanes: ArrayLike | slice | None = None,
    max_symbols: int = DEFAULT_MAX_SYMBOLS,
) -> torch.Tensor:
    """Like :func:`decode_lanes`, into a tensor on ``device``.

    On a CUDA device the lanes are decoded there and never leave it, unless the block holds escapes.
    """
    import torch

    target = torch.device(device)
    if target.type != "cuda":
        values = decode_lanes(data, tables=tables, lanes=lanes, max_symbols=max_symbols)
        return torch.from_numpy(values).to(target)
    from .lanes_triton import decode_tensor

    block = LaneBlock.from_bytes(data, tables=tables, max_symbols=max_symbols)
    chosen = lane_numbers(block, lanes)
    count = _common_count(block, chosen)
    plan = plan_codes(block.tables)
    codes = decode_tensor(block, chosen, plan)
    if plan.value_dtype is not None and not block.escape_counts[chosen].any():
        typed = codes.view(getattr(torch, np.dtype(plan.value_dtype).name))
        if plan.marker is None or not bool((typed == plan.marker).any()):
            return typed.reshape(chosen.size, count)
    on_host = values_of_block(block, chosen, codes.cpu().numpy().view(plan.code_dtype), plan)
    return torch.from_numpy(on_host).to(target).reshape(chosen.size, count)


_EncodedLanes = tuple["NDArray[np.uint32]", "NDArray[np.int64]", "dict[int, NDArray[np.int64]]"]


def _decode(block: LaneBlock, lanes: NDArray[np.int64], backend: Backend, threads: int | None) -> NDArray[Any]:
    plan = plan_codes(block.tables)
    codes = _module(backend).decode(block, lanes, plan, thread_count(threads))
    return values_of_block(block, lanes, codes, plan)


def _common_count(block: LaneBlock, lanes: NDArray[np.int64]) -> int:
    counts = block.symbol_counts[lanes]
    if counts.size and (counts != counts[0]).any():
        raise InvalidParameter(
            f"the lanes have {int(counts.min())} to {int(counts.max())} symbols; use decode_lane_list"
        )
    return int(counts[0]) if counts.size else 0


def _module(backend: Backend) -> Any:
    # Imported here because each of them pulls in a compiler or a coder.
    name = _resolve(backend)
    if name == "native":
        from . import lanes_numba

        return lanes_numba
    if name == "triton":
        from . import lanes_triton

        return lanes_triton
    from . import lanes_constriction

    return lanes_constriction


def _resolve(backend: Backend) -> str:
    if backend not in ("auto", "constriction", "native", "triton"):
        raise InvalidParameter(f"unknown backend {backend!r}; known: auto, constriction, native, triton")
    if backend == "triton":
        from .lanes_triton import triton_device

        triton_device()
    return "native" if backend == "auto" else backend


def _assemble(
    parts: list[_EncodedLanes],
    counts: NDArray[np.int64],
    classes: LaneClasses,
    tables: tuple[FrequencyTable, ...],
    tables_inside: bool,
) -> bytes:
    words = [part[0] for part in parts]
    sizes = [part[1] for part in parts]
    escape_counts = np.zeros(counts.size, np.int64)
    escape_sizes = np.zeros(counts.size, np.int64)
    sections = []
    for lane, codes in (item for part in parts for item in part[2].items()):
        sections.append(pack_escapes(codes))
        escape_counts[lane], escape_sizes[lane] = codes.size, len(sections[-1])
    return LaneBlock(
        tables=tables,
        classes=classes,
        symbol_counts=counts,
        word_offsets=_edges(np.concatenate([np.zeros(0, np.int64), *sizes])),
        words=np.concatenate([np.zeros(0, np.uint32), *words]),
        escape_counts=escape_counts,
        escape_offsets=_edges(escape_sizes),
        escapes=memoryview(b"".join(sections)),
        tables_inside=tables_inside,
    ).to_bytes()


def _edges(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    edges = np.zeros(sizes.size + 1, np.int64)
    np.cumsum(sizes, out=edges[1:])
    return edges
