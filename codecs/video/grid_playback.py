"""Decoding ``gridnerv``: pictures of any time, whole or in part, at full or reduced resolution, segment by segment."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .frame_workers import FrameWorkers
from .grid_bitstream import unpack_latents, unpack_network
from .grid_network import make_pictures, reduced_head
from .grid_structure import key_weights
from .grid_weights import by_name
from .torch_runtime import exact_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ..run_context import RunContext
    from .grid_file import GridHeader

__all__ = ["GridPlayback", "Region", "SegmentDecoder", "View"]

_CUDA_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A rectangle of the picture, in pixels of its full size."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What part of the pictures to compute, how many times smaller (a divisor of the finest stride), how precisely."""

    region: Region
    reduction: int = 1
    bfloat16: bool = False

    @classmethod
    def whole(cls, header: GridHeader) -> View:
        """All of every picture."""
        properties = header.properties
        return cls(region=Region(left=0, top=0, width=properties.width, height=properties.height))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures made; the last partial block of a reduced picture is dropped."""
        height, width = (max(1, side // self.reduction) for side in (self.region.height, self.region.width))
        return height, width


class SegmentDecoder:
    """Pictures of one segment from its two chunks.

    On a CPU every picture is computed alone and on one core, so it depends neither on the others nor on the number of
    threads; on CUDA sixteen at once. Raises :class:`CorruptFile` for malformed chunks.
    """

    def __init__(
        self,
        header: GridHeader,
        network: bytes,
        latents: bytes,
        *,
        frames: int,
        context: RunContext,
        view: View | None = None,
    ) -> None:
        structure = header.structure
        self.device = context.torch_device()
        self._threads = context.threads
        self._batch = _CUDA_BATCH if self.device == "cuda" else 1
        self._frames = frames
        self._structure = structure
        self._view = view or View.whole(header)
        flat = torch.from_numpy(unpack_network(network, structure).values()).to(self.device)
        self._weights = by_name(structure, flat)
        if self._view.reduction > 1:
            self._weights = reduced_head(structure, self._weights, self._view.reduction)
        self._window, self._inside = _window(header, self._view)
        grids = unpack_latents(latents, structure, frames)
        self._keys = [self._cropped(number, torch.from_numpy(grid.levels)) for number, grid in enumerate(grids)]
        self._gains = [torch.from_numpy(grid.scale).to(self.device) for grid in grids]

    def pictures(self, times: Sequence[float]) -> Iterator[NDArray[np.uint8]]:
        """uint8 RGB [N, H, W, 3] at ``times``, in frames from the segment's first; N is 1 on a CPU."""
        groups = (times[start : start + self._batch] for start in range(0, len(times), self._batch))
        with FrameWorkers(self._threads, self.device) as workers:
            yield from workers.map(self._pictures, groups)

    def _pictures(self, times: Sequence[float]) -> NDArray[np.uint8]:
        with torch.inference_mode(), exact_float32(self.device):
            with torch.autocast(self.device, torch.bfloat16, enabled=self._view.bfloat16):
                output = make_pictures(self._structure, self._weights, self._latents(times)).float()
            top, left = self._inside
            height, width = self._view.size
            visible = output[:, top : top + height, left : left + width]
            rounded = visible.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
            pictures: NDArray[np.uint8] = rounded.cpu().numpy()
        return pictures

    def _latents(self, times: Sequence[float]) -> list[torch.Tensor]:
        """One tensor [N, rows, columns, C] a level."""
        levels: dict[int, list[torch.Tensor]] = {}
        for grid, keys, gain in zip(self._structure.grids, self._keys, self._gains, strict=True):
            triples = [key_weights(time, grid, self._frames) for time in times]
            values = keys[[first for first, _, _ in triples]].float()
            if any(weight for _, _, weight in triples):
                weights = torch.tensor([weight for _, _, weight in triples], device=self.device)
                following = keys[[second for _, second, _ in triples]].float()
                values = torch.lerp(values, following, weights.view(-1, 1, 1, 1))
            levels.setdefault(grid.stride, []).append(values * gain)
        return [torch.cat(parts, dim=1).permute(0, 2, 3, 1).contiguous() for parts in levels.values()]

    def _cropped(self, number: int, keys: torch.Tensor) -> torch.Tensor:
        """The part of a grid's keys [keys, C, rows, columns] that the view needs."""
        top, left, bottom, right = (edge // self._structure.grids[number].stride for edge in self._window)
        return keys[..., top:bottom, left:right].contiguous().to(self.device)


class GridPlayback:
    """The frames of a file. ``load`` gives the two chunks of a segment, None where a damaged file has lost it.

    One segment is held at a time; frames asked for in order decode each segment once.
    """

    def __init__(
        self,
        header: GridHeader,
        timestamps: tuple[int, ...],
        load: Callable[[int], tuple[bytes, bytes] | None],
        *,
        context: RunContext,
        view: View | None = None,
    ) -> None:
        self.device = context.torch_device()
        self.timestamps = timestamps
        self._header = header
        self._load = load
        self._context = context
        self._view = view or View.whole(header)
        self._starts = [segment.start for segment in header.segments]
        self._held: tuple[int, SegmentDecoder | None] | None = None

    def batches(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """uint8 RGB [N, H, W, 3] for the frames ``indices``, in that order."""
        return self.at_times([float(index) for index in indices])

    def at_times(self, times: Sequence[float]) -> Iterator[NDArray[np.uint8]]:
        """uint8 RGB [N, H, W, 3] at ``times`` in frames; between the last frame of a segment and the next it holds."""
        position = 0
        while position < len(times):
            number = bisect_right(self._starts, times[position]) - 1
            segment = self._header.segments[number]
            own: list[float] = []
            while position + len(own) < len(times) and segment.start <= times[position + len(own)] < segment.stop:
                own.append(min(times[position + len(own)] - segment.start, len(segment) - 1.0))
            position += len(own)
            decoder = self._segment(number)
            if decoder is None:
                yield from (np.full((1, *self._view.size, 3), 128, np.uint8) for _ in own)
            else:
                yield from decoder.pictures(own)

    def _segment(self, number: int) -> SegmentDecoder | None:
        if self._held is not None and self._held[0] == number:
            return self._held[1]
        self._held = None  # let go of one before the next is made
        chunks = self._load(number)
        decoder = None
        if chunks is None:
            segment = self._header.segments[number]
            self._context.warning(f"frames {segment.start} to {segment.stop} are lost and shown in grey")
        else:
            frames = len(self._header.segments[number])
            decoder = SegmentDecoder(self._header, *chunks, frames=frames, context=self._context, view=self._view)
        self._held = number, decoder
        return decoder


def _window(header: GridHeader, view: View) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Top, left, bottom, right of what has to be computed, and where the view's picture begins in the result."""
    structure, region = header.structure, view.region
    coarse, reach = structure.strides[0], structure.reach
    height, width = structure.picture
    properties = header.properties
    if (region.width, region.height) == (properties.width, properties.height):
        return (0, 0, height, width), (0, 0)
    top = max(0, (region.top - reach) // coarse * coarse)
    left = max(0, (region.left - reach) // coarse * coarse)
    bottom = min(height, -(-(region.top + region.height + reach) // coarse) * coarse)
    right = min(width, -(-(region.left + region.width + reach) // coarse) * coarse)
    inside = (region.top - top) // view.reduction, (region.left - left) // view.reduction
    return (top, left, bottom, right), inside
