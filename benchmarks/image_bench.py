"""``codec bench image``: lossless photographs and digits, beside other formats on the very same pixels."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import codeckit

from ..formats.errors import CorruptFile, InvalidParameter
from .image_large import measured_large
from .image_parts import measured_overhead, measured_parts
from .image_peers import IMAGE_PEERS
from .provenance import provenance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["bench"]

Row = dict[str, Any]
Coder = tuple[str, str, Callable[["NDArray[np.uint8]"], bytes], Callable[[bytes], "NDArray[np.uint8]"]]

DATA = "../shared/data"
REDUCTION = 3
"""How much the held-out photographs are reduced before they are measured."""
_IDX_HEADER_BYTES = 16
_SETTINGS = {
    "data": DATA,
    "sets": "kodak,held-out,digits,parts",
    "presets": "fast,balanced,max",
    "peers": ",".join(dict.fromkeys(peer.codec for peer in IMAGE_PEERS)),
    "images": "",
    "sizes": "1024x1024,4096x1024,4096x4096",
}


def bench(settings: Mapping[str, str], context: codeckit.RunContext) -> list[Row]:
    """Encode and decode whole sets of images with ``pc`` and with other formats; every rate is of file bytes.

    Settings: ``data`` (folder with ``images/kodak``, ``images/train`` and ``mnist``), ``sets`` (of kodak, held-out,
    digits, parts, overhead, large), ``presets`` of ``pc``, ``peers`` (of png, webp, jpeg2000, jpeg-xl), ``images=N``
    for the first N of each set (``kodak-4`` in rows), ``sizes`` (WIDTHxHEIGHT) of the large pictures.
    """
    unknown = settings.keys() - _SETTINGS.keys()
    if unknown:
        raise InvalidParameter(f"unknown settings {sorted(unknown)}; known: {', '.join(_SETTINGS)}")
    chosen = {**_SETTINGS, **settings}
    data = Path(chosen["data"])
    limit = int(chosen["images"]) if chosen["images"].isdecimal() else None
    head = {"benchmark": "image", "threads": context.threads, **provenance()}
    rows = []
    for name in _names(chosen["sets"]):
        if name == "digits":
            rows.append({**head, "set": name, **_digits(data / "mnist" / "t10k-images-idx3-ubyte.gz", context)})
            continue
        if name == "parts":
            parts = measured_parts(_pictures("kodak", data)[:limit])
            rows += [{**head, "set": name, **part} for part in parts]
            continue
        if name == "overhead":
            rows.append({**head, "set": name, **measured_overhead(_pictures("kodak", data)[0])})
            continue
        if name == "large":
            large = measured_large(_pictures("kodak", data), _sizes(chosen["sizes"]), context)
            rows += [{**head, "set": name, **row} for row in large]
            continue
        pictures = _pictures(name, data)[:limit]
        label = name if limit is None else f"{name}-{limit}"
        for coder in _coders(_names(chosen["presets"]), _names(chosen["peers"]), context):
            context.check_cancelled()
            rows.append({**head, "set": label, **_measured(coder, pictures)})
    return rows


def _pictures(name: str, data: Path) -> list[NDArray[np.uint8]]:
    """The set called ``name`` as RGB arrays."""
    import numpy as np
    from PIL import Image

    from ..codecs.image.held_out import held_out_names

    if name == "kodak":
        files = sorted((data / "images" / "kodak").glob("*.png"))
    elif name == "held-out":
        files = [data / "images" / "train" / held for held in sorted(held_out_names())]
    else:
        raise InvalidParameter(f"no set is called {name}; there are kodak, held-out, digits, parts, overhead and large")
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise InvalidParameter(f"no images of {name} in {data}; give their folder with --set data=FOLDER")
    pictures = []
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        pictures.append(np.asarray(image if name == "kodak" else image.reduce(REDUCTION)))
    return pictures


def _names(setting: str) -> list[str]:
    return [name for name in setting.split(",") if name]


def _sizes(setting: str) -> list[tuple[int, int]]:
    sizes = []
    for name in _names(setting):
        width, _, height = name.partition("x")
        if not width.isdecimal() or not height.isdecimal() or int(width) < 1 or int(height) < 1:
            raise InvalidParameter(f"sizes={setting}: {name!r} is not WIDTHxHEIGHT")
        sizes.append((int(width), int(height)))
    return sizes


def _coders(presets: list[str], peers: list[str], context: codeckit.RunContext) -> Iterator[Coder]:
    unknown = set(peers) - {peer.codec for peer in IMAGE_PEERS}
    if unknown:
        raise InvalidParameter(f"no peer is called {', '.join(sorted(unknown))}")
    for preset in presets:
        encode = partial(codeckit.encode, codec="pc", preset=preset, context=context)
        yield "pc", preset, encode, partial(codeckit.decode, context=context)
    for peer in IMAGE_PEERS:
        if peer.codec in peers:
            yield peer.codec, peer.preset, peer.encode, peer.decode


def _measured(coder: Coder, pictures: list[NDArray[np.uint8]]) -> Row:
    """Size and speed over a whole set; decoded pixels must be the same. The first picture warms up, unmeasured."""
    import numpy as np

    codec, preset, encode, decode = coder
    decode(encode(pictures[0]))
    clock = {"encode": 0.0, "decode": 0.0, "encode_cpu": 0.0, "decode_cpu": 0.0}
    sizes = []
    for pixels in pictures:
        data = _timed(clock, "encode", partial(encode, pixels))
        decoded = _timed(clock, "decode", partial(decode, data))
        if not np.array_equal(decoded, pixels):
            raise CorruptFile(f"{codec} {preset} did not give the pixels back")
        sizes.append(len(data))
    raw = sum(pixels.nbytes for pixels in pictures)
    bits = [8 * size / pixels.nbytes for size, pixels in zip(sizes, pictures, strict=True)]
    return {
        "codec": codec,
        "preset": preset,
        "pictures": len(pictures),
        "file_bytes": sum(sizes),
        "bits_per_subpixel": round(8 * sum(sizes) / raw, 4),
        "worst_bits_per_subpixel": round(max(bits), 4),
        **{f"{name}_mb_per_s": round(raw / 1e6 / seconds, 3) for name, seconds in clock.items()},
    }


def _timed(clock: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Run ``work``, adding elapsed and processor time to ``clock``."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    clock[name] += time.perf_counter() - wall
    clock[f"{name}_cpu"] += time.process_time() - processor
    return result


def _digits(path: Path, context: codeckit.RunContext) -> Row:
    """All test digits in one file of ``pc-grey``."""
    import numpy as np

    if not path.is_file():
        raise InvalidParameter(f"{path} does not exist; give its folder with --set data=FOLDER")
    clock = {"encode": 0.0, "decode": 0.0, "encode_cpu": 0.0, "decode_cpu": 0.0}
    data = _timed(clock, "encode", lambda: codeckit.encode(path, codec="pc-grey", context=context))
    images = _timed(clock, "decode", lambda: codeckit.decode(data, context=context))
    with gzip.open(path) as stream:
        pixels = np.frombuffer(stream.read()[_IDX_HEADER_BYTES:], np.uint8)
    if not np.array_equal(np.asarray(images).reshape(-1), pixels):
        raise CorruptFile("pc-grey did not give the pixels back")
    return {
        "codec": "pc-grey",
        "preset": "digits",
        "pictures": len(images),
        "file_bytes": len(data),
        "bpp": round(8 * len(data) / images.size, 4),
        **{f"{name}_seconds": round(seconds, 2) for name, seconds in clock.items()},
    }
