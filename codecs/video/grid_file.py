"""What a ``gridnerv`` file holds: its header, the chunks TIME and audi, then NETW and LATS of each segment."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile
from .clip_header import VideoHeader, clip_fields
from .grid_structure import GridStructure
from .hnerv_structure import positive_integers
from .segment import Segment

if TYPE_CHECKING:
    from ...formats.canonical_json import JsonObject
    from ...formats.header import Header
    from ...formats.limits import Limits

__all__ = ["LATENTS", "NETWORK", "GridHeader"]

NETWORK, LATENTS = "NETW", "LATS"
_BYTES_PER_VALUE = 24  # int16, int64 with its table's number, and float32 while a chunk is unpacked
_MAX_FRAMES = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class GridHeader(VideoHeader):
    """The header parameters of a file; ``segments`` cover the frames one after the other."""

    structure: GridStructure
    segments: tuple[Segment, ...]

    def as_json(self) -> JsonObject:
        """For :class:`Header`."""
        starts = [segment.start for segment in self.segments]
        return {**self.clip_json(), "network": self.structure.as_json(), "segments": [*starts]}

    @classmethod
    def of(cls, header: Header) -> GridHeader:
        """Parse a file's header; raises :class:`CorruptFile`."""
        value = header.parameters
        fields = clip_fields(value, frozenset({"network", "segments"}))
        starts = positive_integers(value["segments"], 1, 1 << 20, _MAX_FRAMES, least_value=0)
        bounds = [*starts, fields["frames"]]
        if starts[0] != 0 or any(after <= before for before, after in pairwise(bounds)):
            raise CorruptFile(f"header: the segments {bounds} do not cover the frames one after the other")
        header_of_clip = cls(
            **fields,
            structure=GridStructure.from_json(value["network"]),
            segments=tuple(Segment(*pair) for pair in pairwise(bounds)),
        )
        height, width = header_of_clip.structure.picture
        if header_of_clip.properties.height > height or header_of_clip.properties.width > width:
            raise CorruptFile(f"header: the network makes only {width}x{height}")
        return header_of_clip

    def check(self, limits: Limits) -> None:
        """Raise :class:`LimitExceeded` when the file asks for too much, before anything is allocated."""
        self.check_clip(limits)
        height, width = self.structure.picture
        limits.check("max_dimension", max(height, width), "the network's picture")
        limits.check("max_pixels", height * width, "the network's picture")
        longest = max(len(segment) for segment in self.segments)
        values = self.structure.decoder_parameters + self.structure.latents(longest)
        limits.check("max_memory_bytes", values * _BYTES_PER_VALUE, "the network with its latents")
