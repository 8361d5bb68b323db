"""Cutting a clip into segments that are fitted and decoded on their own: at scene changes, and where one grows long."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["Segment", "change_between", "cut_segments", "gather", "thumbnail"]

_THUMBNAIL_ROWS = 18
_LEAST_CHANGE = 18.0  # mean difference of thumbnails, of 255, below which nothing is a cut
_CHANGE_RATIO = 3.0  # and how many times that of the frames around it


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A few samples of a uint8 picture [H, W, 3], block averages, by which scene changes are found."""
    step = max(1, picture.shape[0] // _THUMBNAIL_ROWS, picture.shape[1] // (2 * _THUMBNAIL_ROWS))
    rows, columns = picture.shape[0] // step, picture.shape[1] // step
    if rows == 0 or columns == 0:
        return picture.astype(np.float32)
    blocks = picture[: rows * step, : columns * step].reshape(rows, step, columns, step, 3)
    means: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means


def change_between(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Mean absolute difference of two thumbnails."""
    return float(np.abs(after - before).mean())


def cut_segments(changes: list[float], *, shortest: int, longest: int) -> tuple[Segment, ...]:
    """Segments of a clip whose frame ``i + 1`` differs by ``changes[i]`` from frame ``i``.

    A scene change is a difference that is large and stands out among its neighbours. Changes closer than ``shortest``
    frames to a boundary are passed over, so that a clip that cuts at every frame still gets segments worth fitting.
    Scenes of more than ``longest`` frames are divided evenly.
    """
    frames = len(changes) + 1
    bounds = [0]
    for number in _scene_changes(changes):
        if number - bounds[-1] >= shortest and frames - number >= shortest:
            bounds.append(number)
    bounds.append(frames)
    segments = []
    for start, stop in pairwise(bounds):
        parts = -(-(stop - start) // longest)
        edges = [start + (stop - start) * part // parts for part in range(parts + 1)]
        segments += [Segment(*pair) for pair in pairwise(edges)]
    return tuple(segments)


def gather(pictures: Iterable[NDArray[np.uint8]], segments: Iterable[Segment]) -> Iterator[NDArray[np.uint8]]:
    """The frames of each of the consecutive ``segments``, uint8 [T, H, W, 3], from one pass over ``pictures``."""
    remaining = iter(pictures)
    for segment in segments:
        yield np.stack([next(remaining) for _ in range(len(segment))])


def _scene_changes(changes: list[float]) -> list[int]:
    """Numbers of the frames that begin a scene."""
    found = []
    for number, change in enumerate(changes):
        around = changes[max(0, number - 4) : number] + changes[number + 1 : number + 5]
        usual = float(np.median(around)) if around else 0.0
        if change >= _LEAST_CHANGE and change >= _CHANGE_RATIO * usual:
            found.append(number + 1)
    return found
