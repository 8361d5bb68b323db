"""From integer scores to frequencies that sum to a power of two, the same in NumPy and torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.errors import InvalidParameter
from .lookup_tables import exp2_table

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["normalise_scores", "scores_of_logits"]

_SCORE_BITS = 24


def normalise_scores(scores: Any, *, bits: int, floor: int = 1) -> Any:
    """Frequencies in proportion to ``scores``, at least ``floor`` each, that sum to ``2**bits``.

    ``floor + scores * (2**bits - slots * floor) // sum(scores)``; what rounding down leaves over goes
    to the highest score, the first of them among equals. Scores that are all zero count as equal.

    Args:
        scores: integers >= 0, an array or tensor [..., slots]; every row's sum below ``2**(62 - bits)``.
        bits: 8 to 24.
        floor: at least 1.

    Returns:
        int64 of the same shape, kind and device, ready for ``encode_rows``.

    Raises:
        InvalidParameter: the scores are not such integers, or the floors alone exceed ``2**bits``.
    """
    slots = scores.shape[-1] if scores.ndim else 0
    if not 8 <= bits <= 24 or floor < 1 or slots < 1 or slots * floor > 1 << bits:
        raise InvalidParameter(f"{slots} slots of at least {floor} do not fit frequencies that sum to 2**{bits}")
    if isinstance(scores, np.ndarray):
        return _normalise_array(scores, bits, floor)
    return _normalise_tensor(scores, bits, floor)


def scores_of_logits(logits: Any, *, fraction_bits: int = 8) -> Any:
    """Scores proportional to ``2**(logits / 2**fraction_bits)``, the largest of each row ``2**24``.

    The integer form of a softmax, with logits in units of ``2**-fraction_bits`` bits. Scores below
    one half become zero, which :func:`normalise_scores` lifts to its floor.

    Args:
        logits: integers of magnitude below ``2**40``, an array or tensor [..., slots].

    Returns:
        int64 of the same shape, kind and device.
    """
    table = exp2_table(fraction_bits=fraction_bits, output_bits=_SCORE_BITS)
    if isinstance(logits, np.ndarray):
        wide = logits.astype(np.int64)
        below = wide - wide.max(axis=-1, keepdims=True)
        octaves = np.minimum(-(below >> fraction_bits), 62)
        powers = table(below & ((1 << fraction_bits) - 1)).astype(np.int64)
        array: NDArray[np.int64] = powers >> octaves
        return array
    wide = logits.long()
    below = wide - wide.amax(dim=-1, keepdim=True)
    octaves = (-(below >> fraction_bits)).clamp(max=62)
    return table(below & ((1 << fraction_bits) - 1)).long() >> octaves


def _check_scores(lowest: int, largest_sum: int, is_integer: bool, bits: int) -> None:
    if not is_integer or lowest < 0 or largest_sum >= 1 << (62 - bits):
        raise InvalidParameter(
            f"scores must be integers >= 0 whose sums stay below 2**{62 - bits}; the lowest is {lowest}, "
            f"the largest sum {largest_sum}"
        )


def _normalise_array(scores: NDArray[Any], bits: int, floor: int) -> NDArray[np.int64]:
    slots = scores.shape[-1]
    wide = scores.astype(np.int64)
    totals = wide.sum(axis=-1, keepdims=True)
    if scores.size:
        _check_scores(int(wide.min()), int(totals.max()), scores.dtype.kind in "iu", bits)
    empty = totals == 0
    wide = np.where(empty, 1, wide)
    totals = np.where(empty, slots, totals)
    frequencies: NDArray[np.int64] = floor + wide * ((1 << bits) - slots * floor) // totals
    leftover = (1 << bits) - frequencies.sum(axis=-1, keepdims=True)
    first = wide.argmax(axis=-1)[..., None]
    np.put_along_axis(frequencies, first, np.take_along_axis(frequencies, first, -1) + leftover, -1)
    return frequencies


def _normalise_tensor(scores: torch.Tensor, bits: int, floor: int) -> torch.Tensor:
    import torch

    slots = scores.shape[-1]
    is_integer = not (scores.is_floating_point() or scores.is_complex() or scores.dtype == torch.bool)
    wide = scores.long()
    totals = wide.sum(dim=-1, keepdim=True)
    if scores.numel():
        _check_scores(int(wide.min()), int(totals.max()), is_integer, bits)
    empty = totals == 0
    wide = torch.where(empty, 1, wide)
    totals = torch.where(empty, slots, totals)
    shares = torch.div(wide * ((1 << bits) - slots * floor), totals, rounding_mode="floor")
    frequencies = floor + shares
    leftover = (1 << bits) - frequencies.sum(dim=-1, keepdim=True)
    # argmax leaves open which of several equal elements it names, so the position decides.
    positions = torch.arange(slots, device=scores.device)
    highest = wide == wide.amax(dim=-1, keepdim=True)
    first = torch.where(highest, positions, slots).amin(dim=-1, keepdim=True)
    return frequencies.scatter_add(-1, first, leftover)
