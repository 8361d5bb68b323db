"""What is to be fitted: pictures of a segment, which of their pixels count, a state to begin with, a size to reach."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...formats.errors import InvalidParameter, UnsupportedInput
from ...formats.kinds import open_source
from ...formats.limits import DEFAULT_LIMITS
from ...formats.reader import ContainerReader
from .checkpoint import fingerprint
from .grid_file import LATENTS, NETWORK, GridHeader
from .source_frames import resized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ...formats.limits import Limits
    from .grid_parameters import GridParameters
    from .segment import Segment

__all__ = ["EncodedSegment", "MaskReading", "SegmentTask", "Start"]

_NOT_IN_A_FILE = ("segments_at_once", "start_from", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSegment:
    """A segment's chunks, and the size in bits that its fit believed in."""

    network: bytes
    latents: bytes
    estimated_bits: float

    @property
    def bits(self) -> int:
        """The size of both chunks' payloads."""
        return 8 * (len(self.network) + len(self.latents))


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTask:
    """Pictures uint8 [T, H, W, 3]; ``visible`` bool [T, H, W] or None for all; chunks of a fit to go on from."""

    number: int
    pictures: NDArray[np.uint8]
    visible: NDArray[np.bool_] | None
    start: tuple[bytes, bytes] | None
    target_bits: float | None

    @property
    def pixels(self) -> int:
        """Pixels of all pictures."""
        return self.pictures.size // 3

    def identity(self, params: GridParameters) -> str:
        """SHA-256 of everything that decides the result of the fit."""
        settings: dict[str, object] = {**asdict(params), "target_bits": self.target_bits}
        for name in _NOT_IN_A_FILE:
            del settings[name]
        if self.visible is not None:
            settings["visible"] = hashlib.sha256(np.packbits(self.visible).tobytes()).hexdigest()
        if self.start is not None:
            settings["start"] = hashlib.sha256(b"".join(self.start)).hexdigest()
        return fingerprint(self.pictures, settings)


class MaskReading:
    """The pixels that count, from a picture for all frames or from a clip with one for each frame.

    White (128 and more in the mean of its colours) counts, black does not. Pictures are cropped and resampled as the
    clip is. Raises :class:`InvalidParameter` where there are too few.
    """

    def __init__(self, path: str, *, width: int, height: int, first_frame: int, limits: Limits) -> None:
        self._path = path
        self._size = width, height
        self._first = first_frame
        self._limits = limits

    def of(self, segment: Segment) -> NDArray[np.bool_]:
        """bool [T, H, W] for the frames of ``segment``."""
        start, stop = self._first + segment.start, self._first + segment.stop
        try:
            with open_source("video", self._path, limits=self._limits) as source:
                opening = [frame.pixels for frame in source.frames(0, 2)]
                if len(opening) == 1:
                    one = self._visible(opening[0])
                    return np.broadcast_to(one, (len(segment), *one.shape)).copy()
                found = [self._visible(frame.pixels) for frame in source.frames(start, stop)]
        except UnsupportedInput as error:
            raise InvalidParameter(f"mask={self._path}: {error}") from error
        if len(found) < len(segment):
            raise InvalidParameter(
                f"mask={self._path} ends before frame {stop}: give one picture, or one for each frame"
            )
        return np.stack(found)

    def _visible(self, picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = resized(picture, *self._size).mean(axis=2) >= 128
        return result


class Start:
    """A ``gridnerv`` file of the same clip whose networks and latents are what the fits begin with."""

    def __init__(self, path: str, header: GridHeader) -> None:
        self._chunks: Mapping[tuple[str, tuple[int, ...]], bytes]
        with ContainerReader(path, limits=DEFAULT_LIMITS) as reader:
            before = GridHeader.of(reader.header) if reader.header.codec == "gridnerv" else None
            if before is None or (before.structure, before.segments) != (header.structure, header.segments):
                raise InvalidParameter(
                    f"start_from={path} is no gridnerv file of the same frames and size with the same grids and network"
                )
            self._chunks = {
                (chunk.type, tuple(chunk.span or ())): chunk.payload
                for chunk in reader.chunks()
                if chunk.type in (NETWORK, LATENTS)
            }

    def of(self, segment: Segment) -> tuple[bytes, bytes]:
        """The chunks of network and latents of a segment."""
        span = segment.start, segment.stop
        return self._chunks[NETWORK, span], self._chunks[LATENTS, span]
