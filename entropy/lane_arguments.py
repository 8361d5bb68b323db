"""What callers pass to the lane coders, checked and brought into one form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import InvalidParameter
from .lane_block import MAX_LANE_SYMBOLS, MAX_LANES, LaneClasses, single_class

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .lane_block import LaneBlock

__all__ = ["flatten_lanes", "lane_classes", "lane_numbers"]


def _is_tensor(values: object) -> bool:
    return type(values).__module__.partition(".")[0] == "torch"


def flatten_lanes(values: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All values one after the other, and the number in each lane."""
    if _is_tensor(values):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray):
        if values.ndim != 2:
            raise InvalidParameter(f"values must be [lanes, symbols] or a list of lanes, got {values.shape}")
        counts = np.full(values.shape[0], values.shape[1], np.int64)
        flat = values.reshape(-1)
    else:
        parts = [np.asarray(part) for part in values]
        if any(part.ndim != 1 for part in parts):
            raise InvalidParameter("each lane must be a flat array")
        counts = np.array([part.size for part in parts], np.int64)
        filled = [part for part in parts if part.size]
        flat = np.concatenate(filled) if filled else np.zeros(0, np.int64)
    if flat.size and flat.dtype.kind not in "iu":
        raise InvalidParameter(f"values must be integers, got {flat.dtype}")
    if counts.size > MAX_LANES or int(counts.max(initial=0)) > MAX_LANE_SYMBOLS:
        raise InvalidParameter(
            f"{counts.size} lanes of up to {int(counts.max())} symbols; at most {MAX_LANES} and 2**31 - 1"
        )
    return flat, counts


def lane_classes(
    classes: ArrayLike | None, group_size: int | None, counts: NDArray[np.int64], table_count: int
) -> LaneClasses:
    """``classes`` of :func:`encode_lanes` for lanes of ``counts`` symbols, checked against them."""
    if classes is None:
        if table_count != 1:
            raise InvalidParameter(f"{table_count} tables need classes")
        return single_class(counts)
    numbers = np.asarray(classes)
    lanes = counts.size
    if numbers.dtype.kind not in "iu" or numbers.ndim not in (1, 2):
        raise InvalidParameter(f"classes must be integers [lanes] or [lanes, groups], got {numbers.shape}")
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < table_count:
        raise InvalidParameter(
            f"classes hold {int(numbers.min())}..{int(numbers.max())}, there are {table_count} tables"
        )
    longest = int(counts.max(initial=0))
    if numbers.ndim == 1:
        if group_size is not None or numbers.size != lanes:
            raise InvalidParameter(
                f"classes with one axis hold one number for each of the {lanes} lanes, got {numbers.size}; "
                f"group_size needs classes [lanes, groups] or [1, groups]"
            )
        numbers, group_size = numbers[:, None], max(longest, 1)
    if group_size is None or not 1 <= group_size <= MAX_LANE_SYMBOLS:
        raise InvalidParameter(f"classes with two axes need a group_size of at least 1, got {group_size}")
    needed = -(-longest // group_size)
    if numbers.shape[0] not in (1, lanes) or numbers.shape[1] < needed:
        raise InvalidParameter(
            f"{lanes} lanes of up to {longest} symbols in groups of {group_size} need classes "
            f"[{lanes}, {needed}] or [1, {needed}], got {list(numbers.shape)}"
        )
    if not numbers.any():
        return single_class(counts)
    if numbers.shape[0] == 1:
        row = numbers[0, :needed].astype(np.uint16)
        return LaneClasses(numbers=row, offsets=np.zeros(lanes, np.int64), group_size=group_size)
    groups = -(-counts // group_size)
    used = np.arange(numbers.shape[1]) < groups[:, None]
    return LaneClasses(
        numbers=numbers[used].astype(np.uint16), offsets=np.cumsum(groups) - groups, group_size=group_size
    )


def lane_numbers(block: LaneBlock, lanes: ArrayLike | slice | None) -> NDArray[np.int64]:
    """The lanes of ``block`` that ``lanes`` names, in its order: int64 [chosen]."""
    everything = np.arange(block.lanes)
    if lanes is None:
        return everything
    if isinstance(lanes, slice):
        return everything[lanes]
    numbers: NDArray[Any] = np.atleast_1d(np.asarray(lanes))
    if numbers.size == 0:
        return everything[:0]
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise InvalidParameter(f"lanes must be lane numbers or a slice, got {numbers.dtype} {numbers.shape}")
    if int(numbers.min()) < 0 or int(numbers.max()) >= block.lanes:
        raise InvalidParameter(
            f"lanes {int(numbers.min())}..{int(numbers.max())} asked for, the block has {block.lanes}"
        )
    return numbers.astype(np.int64)
