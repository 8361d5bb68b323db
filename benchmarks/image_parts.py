"""What each part of ``pc`` brings: ideal code lengths with parts of the coding path held still."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["measured_parts"]

_NEVER = 1 << 62

PARTS: Mapping[str, tuple[bool, bool]] = {
    "network and circuit": (False, False),
    "and adaptive maps": (True, False),
    "and online regression": (True, True),
}
"""Whether maps learn, and whether means are regressed."""


def measured_parts(pictures: list[NDArray[np.uint8]]) -> Iterator[dict[str, Any]]:
    """A row for each of :data:`PARTS`: ideal bits per sub-pixel and megabytes a second of processor time."""
    from ..codecs.image.colour import to_ycocg
    from ..codecs.image.integer_network import load_integer_network
    from ..codecs.image.packaged_weights import packaged_network_path
    from ..codecs.image.pyramid_coding import encode_tile

    network = load_integer_network(packaged_network_path())
    subpixels = sum(pixels.size for pixels in pictures)
    for name, (maps_learn, regression) in PARTS.items():
        with ThreadPoolExecutor(1) as pool, _maps(learning=maps_learn):
            encode_tile(to_ycocg(pictures[0]), network, lanes=1, regression=regression, pool=pool)
            processor = time.process_time()
            bits = sum(
                encode_tile(to_ycocg(pixels), network, lanes=1, regression=regression, pool=pool).bits
                for pixels in pictures
            )
            seconds = time.process_time() - processor
        yield {
            "part": name,
            "pictures": len(pictures),
            "ideal_bits_per_subpixel": round(bits / subpixels, 4),
            "encode_cpu_mb_per_s": round(subpixels / 1e6 / seconds, 3),
        }


@contextmanager
def _maps(*, learning: bool) -> Iterator[None]:
    """While this lasts, new maps learn, or stay as they begin: the identity."""
    from ..codecs.image import block_coding
    from ..codecs.image.adaptive_map import new_maps

    def made(variables: int) -> Any:
        maps = new_maps(variables)
        if not learning:
            for timers in (maps[4], maps[8]):
                timers[..., 1] = _NEVER
        return maps

    with mock.patch.object(block_coding, "new_maps", made):
        yield
