"""Between decoder pictures and 8-bit RGB: which matrix, which range, which rounding.

The conversion is libswscale's with its default flags, which is what ``ffmpeg -i clip frame%d.png`` writes. A matrix the
file does not name is read as BT.601, a range it does not name as limited, as libswscale does. Samples of more than
eight bits are rounded to eight by libswscale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import numpy as np

from .media_properties import UNSPECIFIED, Colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bit_depth", "colour_of", "encoded_colour", "frame_from_rgb", "rgb_from_frame"]

_BT709, _BT601, _FCC, _SMPTE240M, _BT2020 = 1, 5, 4, 7, 9
# H.273 matrix code point -> libswscale's coefficient table
_COEFFICIENTS = {1: _BT709, 4: _FCC, 5: _BT601, 6: _BT601, 7: _SMPTE240M, 9: _BT2020, 10: _BT2020}
_LIMITED, _FULL = 1, 2


def colour_of(frame: Any) -> Colour:
    """The colour description a decoded PyAV frame carries."""
    full = frame.format.name.startswith("yuvj")
    return Colour(
        matrix=0 if frame.format.is_rgb else int(frame.colorspace),
        range=_FULL if full else int(frame.color_range),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )


def bit_depth(frame: Any) -> int:
    """Bits per sample of a PyAV frame's first component."""
    return int(frame.format.components[0].bits)


def rgb_from_frame(frame: Any) -> NDArray[np.uint8]:
    """uint8 RGB [height, width, 3] of a decoded PyAV frame."""
    colour = colour_of(frame)
    picture = frame.reformat(
        format="rgb24",
        src_colorspace=_COEFFICIENTS.get(colour.matrix, _BT601),
        src_color_range=_FULL if colour.range == _FULL or colour.is_rgb else _LIMITED,
        dst_color_range=_FULL,
    )
    array: NDArray[np.uint8] = picture.to_ndarray()
    return array


def frame_from_rgb(pixels: NDArray[np.uint8], pixel_format: str, colour: Colour) -> Any:
    """A PyAV frame of ``pixel_format`` from uint8 RGB [height, width, 3], converted and tagged as ``colour`` says."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    if pixel_format.startswith("yuv"):
        frame = frame.reformat(
            format=pixel_format,
            dst_colorspace=_COEFFICIENTS.get(colour.matrix, _BT601),
            src_color_range=_FULL,
            dst_color_range=_FULL if colour.range == _FULL else _LIMITED,
        )
        frame.colorspace = colour.matrix
    else:
        frame = frame.reformat(format=pixel_format)
    frame.color_range = colour.range
    frame.color_primaries = colour.primaries
    frame.color_trc = colour.transfer
    return frame


def encoded_colour(colour: Colour) -> Colour:
    """The description to store YCbCr under: that of the source; BT.709 limited where it was RGB."""
    if not colour.is_rgb:
        return colour
    return Colour(
        matrix=_BT709,
        range=_LIMITED,
        primaries=_BT709 if colour.primaries == UNSPECIFIED else colour.primaries,
        transfer=_BT709 if colour.transfer == UNSPECIFIED else colour.transfer,
    )
