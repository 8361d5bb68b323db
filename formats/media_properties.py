"""What is known of a clip beside its pixels: size, timing, colour description, orientation."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from .errors import CorruptFile

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    from .canonical_json import JsonObject, JsonValue

__all__ = ["Colour", "TimedFrame", "VideoProperties"]

UNSPECIFIED = 2
_MAX_TICK = 1 << 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """Code points of ITU-T H.273; ``range`` is 0 unspecified, 1 limited, 2 full."""

    matrix: int = UNSPECIFIED
    range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @property
    def is_rgb(self) -> bool:
        """Whether the samples were stored as RGB, without a matrix."""
        return self.matrix == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedFrame:
    """One picture, uint8 RGB [height, width, 3], shown from tick ``pts`` for ``duration`` ticks.

    ``duration`` is 0 where the input does not say.
    """

    pixels: NDArray[uint8]
    pts: int
    duration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoProperties:
    """A clip's properties. Times are in ticks of ``time_base`` seconds.

    ``width`` and ``height`` are those of the stored pictures; ``display_matrix`` (nine integers, as in ISO/IEC
    14496-12, None for identity) says how a player turns or mirrors them. ``frame_rate`` is the nominal rate in frames
    per second, ``pixel_aspect`` the width of a pixel over its height.
    """

    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction
    colour: Colour = field(default_factory=Colour)
    pixel_aspect: Fraction = Fraction(1)
    display_matrix: tuple[int, ...] | None = None

    @property
    def frame_ticks(self) -> int:
        """The nominal duration of one frame, at least one tick."""
        return max(1, round(1 / (self.frame_rate * self.time_base)))

    def as_json(self) -> JsonObject:
        """Everything except the size, for a file header; defaults are left out."""
        value: JsonObject = {
            "frame_rate": _pair(self.frame_rate),
            "time_base": _pair(self.time_base),
        }
        if self.colour != Colour():
            colour = self.colour
            value["colour"] = [colour.matrix, colour.range, colour.primaries, colour.transfer]
        if self.pixel_aspect != 1:
            value["pixel_aspect"] = _pair(self.pixel_aspect)
        if self.display_matrix is not None:
            value["display_matrix"] = list(self.display_matrix)
        return value

    @classmethod
    def from_json(cls, value: JsonValue, *, width: int, height: int) -> VideoProperties:
        """Parse what :meth:`as_json` wrote; raises :class:`CorruptFile` for anything else."""
        if not isinstance(value, dict):
            raise CorruptFile("header: the clip's properties are not an object")
        known = {"frame_rate", "time_base", "colour", "pixel_aspect", "display_matrix"}
        if not value.keys() <= known:
            raise CorruptFile(f"header: unknown clip properties {sorted(value.keys() - known)}")
        colour = _integers(value.get("colour", [UNSPECIFIED, 0, UNSPECIFIED, UNSPECIFIED]), 4, 0, 255)
        matrix = value.get("display_matrix")
        return cls(
            width=width,
            height=height,
            time_base=_fraction(value.get("time_base")),
            frame_rate=_fraction(value.get("frame_rate")),
            colour=Colour(matrix=colour[0], range=colour[1], primaries=colour[2], transfer=colour[3]),
            pixel_aspect=_fraction(value.get("pixel_aspect", [1, 1])),
            display_matrix=None if matrix is None else _integers(matrix, 9, -(1 << 31), (1 << 31) - 1),
        )


def _pair(value: Fraction) -> JsonValue:
    return [value.numerator, value.denominator]


def _fraction(value: JsonValue) -> Fraction:
    numerator, denominator = _integers(value, 2, 1, _MAX_TICK)
    return Fraction(numerator, denominator)


def _integers(value: JsonValue, count: int, low: int, high: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise CorruptFile(f"header: expected a list of {count} integers, got {value!r}")
    result = [item for item in value if isinstance(item, int) and not isinstance(item, bool)]
    if len(result) != count or not all(low <= item <= high for item in result):
        raise CorruptFile(f"header: {value!r} is not {count} integers in {low}..{high}")
    return tuple(result)
