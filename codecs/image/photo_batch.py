"""Encoding several pictures at once: small ones of one size share the network's passes and all cores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...formats.errors import Cancelled, CodecError
from ...formats.pictures import Picture
from ..protocol import Figure
from .photo_file import encode_photo, encode_picture, tile_coder, write_picture
from .worker_threads import worker_count

if TYPE_CHECKING:
    from ...formats.images import ImageSource
    from ...formats.writer import ContainerWriter
    from ..run_context import RunContext
    from .photo_codec import PhotoParameters

__all__ = ["encode_photos"]

_LARGEST_TOGETHER = 1 << 17
"""Pixels up to which a picture is encoded with others; larger ones keep all cores busy alone."""
_PIXELS_TOGETHER = 1 << 19

Outcome = Mapping[str, Figure] | CodecError


def encode_photos(
    sources: Sequence[ImageSource], sinks: Sequence[ContainerWriter], params: PhotoParameters, context: RunContext
) -> list[Outcome]:
    """Encode every source to its sink, in the bytes it would have alone; one that fails does not stop the others."""
    outcomes: dict[int, Outcome] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Picture]]] = defaultdict(list)
    for number, (source, sink) in enumerate(zip(sources, sinks, strict=True)):
        try:
            picture = source.picture()
            if picture is None:
                outcomes[number] = encode_photo(source, sink, params, context)
                continue
            for message in source.warnings():
                context.warning(message)
            height, width, _ = picture.pixels.shape
            if height * width > _LARGEST_TOGETHER or max(height, width) > params.tile:
                outcomes[number] = encode_picture(picture, sink, params, context)
            else:
                waiting[picture.pixels.shape].append((number, picture))
        except Cancelled:
            raise
        except CodecError as error:
            outcomes[number] = error
    for shape, group in waiting.items():
        count = max(1, _PIXELS_TOGETHER // (shape[0] * shape[1]))
        for start in range(0, len(group), count):
            part = group[start : start + count]
            outcomes |= _together(part, sinks, params, context)
            context.report("encode", len(outcomes), len(sources), unit="pictures")
    return [outcomes[number] for number in range(len(sources))]


def _together(
    group: Sequence[tuple[int, Picture]],
    sinks: Sequence[ContainerWriter],
    params: PhotoParameters,
    context: RunContext,
) -> dict[int, Outcome]:
    """Encode pictures of one shape, each a single tile."""
    pixels: list[NDArray[np.uint8]] = [np.ascontiguousarray(picture.pixels) for _, picture in group]
    with tile_coder(worker_count(context)) as coder:
        tiles = coder.encode_together(pixels, lanes=params.lanes, regression=params.regression)
    outcomes: dict[int, Outcome] = {}
    for (number, picture), tile in zip(group, tiles, strict=True):
        try:
            outcomes[number] = write_picture(picture, sinks[number], params, iter([tile]))
        except CodecError as error:
            outcomes[number] = error
    return outcomes
