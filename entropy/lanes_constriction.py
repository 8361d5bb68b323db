"""The reference decoder and encoder of lanes: constriction, one lane at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.errors import CorruptFile
from .coder_models import coder_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable
    from .lane_block import LaneBlock, LaneClasses
    from .lane_codes import CodePlan

__all__ = ["LaneEncoder", "decode", "prepare_encoder"]

LaneEncoder = Callable[
    ["NDArray[Any]", "NDArray[np.int64]", "LaneClasses"], "tuple[NDArray[np.uint32], NDArray[np.int64]]"
]


def decode(block: LaneBlock, lanes: NDArray[np.int64], plan: CodePlan, threads: int) -> NDArray[Any]:
    """The codes of ``lanes``, one after the other; ``threads`` is ignored (constriction holds the lock)."""
    from constriction import stream

    out = np.empty(int(block.symbol_counts[lanes].sum()), plan.code_dtype)
    position = 0
    for lane in lanes.tolist():
        words = block.words[block.word_offsets[lane] : block.word_offsets[lane + 1]]
        if words.size and words[-1] == 0:
            raise CorruptFile(f"lane block: lane {lane} ends in a zero word")
        coder = stream.stack.AnsCoder(words.astype(np.uint32))
        count = int(block.symbol_counts[lane])
        for number, start, stop in block.classes.runs(lane, count):
            table = block.tables[number]
            codes = plan.codes[number]
            if table.slots == 1:
                out[position + start : position + stop] = codes[0]
            else:
                slots = coder.decode(coder_model(table), stop - start)
                out[position + start : position + stop] = codes[slots]
        if not coder.is_empty():
            raise CorruptFile(f"lane block: lane {lane} has words left over after its {count} symbols")
        position += count
    return out


def prepare_encoder(tables: Sequence[FrequencyTable]) -> LaneEncoder:
    """An encoder of lanes under ``tables``.

    It takes flat slot numbers, symbols per lane and classes; it returns the words of all lanes, one
    after the other, and the number of words of each.
    """
    from constriction import stream

    def encode(
        slots: NDArray[Any], counts: NDArray[np.int64], classes: LaneClasses
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        words = []
        position = 0
        for lane, count in enumerate(counts.tolist()):
            coder = stream.stack.AnsCoder()
            for number, start, stop in reversed(classes.runs(lane, count)):
                if tables[number].slots > 1:
                    part = slots[position + start : position + stop].astype(np.int32)
                    coder.encode_reverse(part, coder_model(tables[number]))
            words.append(coder.get_compressed())
            position += count
        sizes = np.array([part.size for part in words], np.int64)
        return np.concatenate([np.zeros(0, np.uint32), *words]), sizes

    return encode
