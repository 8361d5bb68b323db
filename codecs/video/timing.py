"""When each frame of a file is shown: a constant step in the header, or one chunk of differences."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile
from ...formats.varint import append_varint, read_varint

if TYPE_CHECKING:
    from ...formats.canonical_json import JsonValue

__all__ = ["Timing", "pack_differences", "unpack_differences"]

_MAX_TICK = 1 << 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Ticks of the first frame and of the end of the last; ``step`` 0 means a TIME chunk has the differences."""

    start: int
    end: int
    step: int

    @classmethod
    def of(cls, timestamps: tuple[int, ...], end: int) -> Timing:
        """The timing of increasing ``timestamps`` that end at tick ``end``."""
        steps = {later - earlier for earlier, later in pairwise(timestamps)} or {end - timestamps[0]}
        return cls(start=timestamps[0], end=end, step=steps.pop() if len(steps) == 1 else 0)

    def as_json(self) -> list[JsonValue]:
        """For a file header."""
        return [self.start, self.end, self.step]

    @classmethod
    def from_json(cls, value: JsonValue) -> Timing:
        """Parse :meth:`as_json`; raises :class:`CorruptFile`."""
        numbers = value if isinstance(value, list) else []
        whole = [item for item in numbers if isinstance(item, int) and not isinstance(item, bool)]
        if len(whole) != 3 or len(numbers) != 3 or any(abs(item) > _MAX_TICK for item in whole):
            raise CorruptFile(f"header: {value!r} is not a timing of three integers")
        start, end, step = whole
        if step < 0 or end <= start:
            raise CorruptFile(f"header: the timing {value!r} runs backwards")
        return cls(start=start, end=end, step=step)

    def regular(self, count: int) -> tuple[int, ...]:
        """The timestamps of ``count`` frames with a constant step."""
        if self.start + self.step * (count - 1) >= self.end:
            raise CorruptFile("header: the last frame would begin after the end of the clip")
        return tuple(range(self.start, self.start + self.step * count, self.step))


def pack_differences(timestamps: tuple[int, ...]) -> bytes:
    """The differences between neighbours as varints: the payload of a TIME chunk."""
    out = bytearray()
    for earlier, later in pairwise(timestamps):
        append_varint(out, later - earlier)
    return bytes(out)


def unpack_differences(payload: bytes, timing: Timing, count: int) -> tuple[int, ...]:
    """The timestamps of ``count`` frames; raises :class:`CorruptFile`."""
    timestamps = [timing.start]
    position = 0
    while len(timestamps) < count:
        difference, position = read_varint(payload, position, "TIME chunk")
        if difference < 1:
            raise CorruptFile(f"TIME chunk: frame {len(timestamps)} is not later than the one before")
        timestamps.append(timestamps[-1] + difference)
    if position != len(payload) or timestamps[-1] >= timing.end:
        raise CorruptFile("TIME chunk: it does not match the number of frames or the end of the clip")
    return tuple(timestamps)
