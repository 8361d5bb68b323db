"""The video codecs on a clip, and H.264 on the very same frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import codeckit

from ..codecs.parameters import Range, Size
from ..formats.errors import InvalidParameter
from .provenance import provenance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["bench"]

Row = dict[str, Any]

CLIP = "../shared/data/video/bigbuckbunny.mp4"
X264_QUALITIES = (18, 24, 30, 36)


def bench(settings: Mapping[str, str], context: codeckit.RunContext) -> list[Row]:
    """Encode and decode a clip with hnerv, and with x264 for comparison (clip=, preset=, size=, frames=, ...)."""
    given = dict(settings)
    clip = Path(given.pop("clip", CLIP))
    preset = given.pop("preset", "quick")
    given = {"size": "320x160", "frames": "0:32", **given}
    if not clip.exists():
        raise InvalidParameter(f"{clip} does not exist; give a clip with --set clip=FILE")
    size, frames = Size.parse(given["size"]), Range.parse(given["frames"])
    originals = _originals(clip, (size.width, size.height), (frames.start, frames.stop))
    common = {"benchmark": "video", "clip": clip.name, "size": str(size), "frames": len(originals), **provenance()}
    rows = [{**common, **_neural(clip, preset, given, originals, context)}]
    for quality in X264_QUALITIES:
        context.check_cancelled()
        rows.append({**common, **_x264(originals, quality)})
    return rows


def mean_psnr_db(originals: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> float:
    """Mean over frames of the PSNR in RGB, from float64 errors, apart from the codec's own measurement."""
    import numpy as np

    errors = (originals.astype(np.float64) - decoded.astype(np.float64)) ** 2
    return float(np.mean([10 * np.log10(255**2 / max(frame.mean(), 1e-5)) for frame in errors]))


def _neural(
    clip: Path, preset: str, settings: Mapping[str, str], originals: NDArray[np.uint8], context: codeckit.RunContext
) -> Row:
    wall, cpu = time.perf_counter(), time.process_time()
    data = codeckit.encode(clip, codec="hnerv", preset=preset, settings=settings, context=context)
    encode_seconds, encode_cpu = time.perf_counter() - wall, time.process_time() - cpu
    wall = time.perf_counter()
    decoded = codeckit.decode(data, context=context)
    decode_seconds = time.perf_counter() - wall
    audio = sum(chunk.payload_bytes for chunk in codeckit.info(data).chunks if chunk.type == "audi")
    pixels = originals.shape[0] * originals.shape[1] * originals.shape[2]
    return {
        "codec": "hnerv",
        "preset": preset,
        "settings": " ".join(f"{name}={value}" for name, value in sorted(settings.items())),
        "file_bytes": len(data),
        "audio_bytes": audio,
        "bpp": 8 * len(data) / pixels,
        "bpp_without_audio": 8 * (len(data) - audio) / pixels,
        "psnr_db": mean_psnr_db(originals, decoded),
        "encode_seconds": round(encode_seconds, 2),
        "encode_cpu_seconds": round(encode_cpu, 2),
        "decode_seconds": round(decode_seconds, 3),
    }


def _x264(originals: NDArray[np.uint8], quality: int) -> Row:
    """x264 medium at constant rate factor ``quality``: packet bytes alone, 4:2:0 as usual, PSNR in RGB."""
    import av
    import numpy as np

    wall = time.perf_counter()
    encoder = av.CodecContext.create("libx264", "w")
    _, encoder.height, encoder.width, _ = originals.shape
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
    encoder.options = {"crf": str(quality), "preset": "medium"}
    packets = []
    for number, picture in enumerate(originals):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture)).reformat(format="yuv420p")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    encode_seconds = time.perf_counter() - wall
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    size = sum(packet.size for packet in packets)
    pixels = originals.shape[0] * originals.shape[1] * originals.shape[2]
    return {
        "codec": "x264",
        "preset": "medium",
        "settings": f"crf={quality}",
        "file_bytes": size,
        "audio_bytes": 0,
        "bpp": 8 * size / pixels,
        "bpp_without_audio": 8 * size / pixels,
        "psnr_db": mean_psnr_db(originals, decoded),
        "encode_seconds": round(encode_seconds, 2),
    }


def _originals(clip: Path, size: tuple[int, int], frames: tuple[int, int | None]) -> NDArray[np.uint8]:
    from ..codecs.video.source_frames import load_frames
    from ..formats.kinds import open_source

    with open_source("video", clip, limits=codeckit.Limits()) as source:
        return load_frames(source, size=size, frames=frames)
