"""What the headers of all video codecs share: the clip's length, size, timing and properties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile
from ...formats.media_properties import VideoProperties
from .timing import Timing, unpack_differences

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction
    from typing import Any

    from ...formats.canonical_json import JsonObject, JsonValue
    from ...formats.limits import Limits
    from ..protocol import Figure

__all__ = ["AUDIO", "TIMES", "VideoHeader", "clip_fields", "positive_integer"]

TIMES, AUDIO = "TIME", "audi"
_FIELDS = frozenset({"clip", "frames", "height", "timing", "width"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoHeader:
    """The parameters that every video codec writes."""

    frames: int
    properties: VideoProperties
    timing: Timing

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        return (self.timing.end - self.timing.start) * self.properties.time_base

    def clip_json(self) -> JsonObject:
        """These parameters, for a file header."""
        return {
            "clip": self.properties.as_json(),
            "frames": self.frames,
            "height": self.properties.height,
            "timing": self.timing.as_json(),
            "width": self.properties.width,
        }

    def check_clip(self, limits: Limits) -> None:
        """Raise :class:`LimitExceeded` when the decoded clip is too much."""
        width, height = self.properties.width, self.properties.height
        limits.check("max_frames", self.frames, "the clip's length in frames")
        limits.check("max_dimension", max(width, height), "the clip's picture")
        limits.check("max_pixels", width * height, "the clip's picture")
        limits.check("max_output_bytes", self.frames * width * height * 3, "the decoded clip")

    def timestamps(self, payload: bytes | None) -> tuple[int, ...]:
        """When each frame is shown, in ticks; ``payload`` is the TIME chunk of files that need one.

        Raises :class:`CorruptFile`.
        """
        if payload is not None:
            return unpack_differences(payload, self.timing, self.frames)
        return self.timing.regular(self.frames)

    def rate_figures(self, output_bytes: int) -> Mapping[str, Figure]:
        """``bpp``, bits per pixel of one frame, and ``kbit_s``, both from all bytes of the file."""
        pixels = self.frames * self.properties.width * self.properties.height
        return {"bpp": 8 * output_bytes / pixels, "kbit_s": float(8 * output_bytes / self.duration / 1000)}

    def describe(self) -> Mapping[str, JsonValue]:
        """What a person wants to know about the clip."""
        return {
            "picture": f"{self.properties.width}x{self.properties.height}",
            "frames": self.frames,
            "fps": _decimal(float(self.properties.frame_rate)),
            "duration_seconds": _decimal(float(self.duration)),
            "variable_frame_rate": self.timing.step == 0,
        }


def clip_fields(value: JsonObject, own: frozenset[str]) -> dict[str, Any]:
    """The arguments of :class:`VideoHeader` from a file header that also has the fields ``own``.

    Raises :class:`CorruptFile` for missing, unknown and malformed fields.
    """
    if value.keys() != _FIELDS | own:
        raise CorruptFile(f"header: expected the fields {sorted(_FIELDS | own)}, got {sorted(value)}")
    width, height = positive_integer(value, "width"), positive_integer(value, "height")
    return {
        "frames": positive_integer(value, "frames"),
        "properties": VideoProperties.from_json(value["clip"], width=width, height=height),
        "timing": Timing.from_json(value["timing"]),
    }


def positive_integer(value: JsonObject, name: str) -> int:
    """The field ``name``; raises :class:`CorruptFile` when it is anything but a positive integer."""
    number = value[name]
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise CorruptFile(f"header: {name} is {number!r}, not a positive integer")
    return number


def _decimal(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
