"""The fresh process of the audit: claims come in as JSON, what does not agree goes out.

Rates are derived here on purpose without the harness's module for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..formats.errors import CodecError
from .items import Item, load_item
from .peers import ORIGINAL, content_form, find_peer, peer_parameters
from .scorers import find_scorer

__all__ = ["main"]

TOLERANCE = 1e-9
# scores are floating point on another thread count or another order of sums
SCORE_TOLERANCE = 1e-3


def main() -> int:
    """Check all claims of standard input."""
    problems: list[str] = []
    claims = json.load(sys.stdin)
    decoded = 0
    for claim in claims:
        try:
            problems += [f"{claim['name']}: {found}" for found in _check_rate(claim)]
            if claim["scores"] is not None:
                decoded += 1
                problems += [f"{claim['name']}: {found}" for found in _check_scores(claim)]
        except (CodecError, OSError, ValueError) as error:
            problems.append(f"{claim['name']}: {type(error).__name__}: {error}")
    print(json.dumps({"rates": len(claims), "decoded": decoded, "problems": problems}))
    return 0


def _check_rate(claim: Mapping[str, Any]) -> list[str]:
    size = Path(claim["file"]).stat().st_size
    if size != claim["file_bytes"]:
        return [f"the file has {size:,} bytes, the row says {claim['file_bytes']:,}"]
    bits = 8 * size
    units = _units(claim)
    if abs(bits / units - claim["rate"]) > TOLERANCE * claim["rate"]:
        return [f"{bits:,} bits over {units:,.0f} are {bits / units:.6g}, the row says {claim['rate']:.6g}"]
    return []


def _units(claim: Mapping[str, Any]) -> float:
    """Pixels, milliseconds, bytes or elements, from the input where it is taken whole, else from what is decoded."""
    import av
    from PIL import Image

    kind, source = claim["kind"], claim["input"]
    if kind == "image":
        with Image.open(source) as picture:
            return float(picture.width * picture.height)
    if kind == "audio":
        with av.open(source) as container:
            stream = container.streams.audio[0]
            samples = sum(frame.samples for frame in container.decode(stream))
            return float(samples / stream.rate * 1000)
    decoded = _decode(claim)
    if kind == "video":
        frames, height, width, _ = decoded.frames.shape
        return float(frames * height * width)
    return float(len(decoded)) if kind == "bytes" else float(decoded.size)


def _decode(claim: Mapping[str, Any]) -> Any:
    item = Item(
        data_set="audit", name=claim["name"], kind=claim["kind"], path=Path(claim["input"]), label=claim["label"]
    )
    original = load_item(item)
    if claim["codec"] == ORIGINAL:
        return original
    peer = find_peer(claim["codec"])
    settings = {name: value for name, value in claim["params"].items() if not name.endswith(" sha256")}
    params = peer_parameters(peer, None, {name: value for name, value in settings.items() if value is not None})
    return peer.decode(Path(claim["file"]), params, content_form(claim["kind"], original))


def _item(claim: Mapping[str, Any]) -> Item:
    path = Path(claim["input"])
    return Item(data_set="audit", name=claim["name"], kind=claim["kind"], path=path, label=claim["label"])


def _check_scores(claim: Mapping[str, Any]) -> list[str]:
    if claim["kind"] == "video":
        return []  # which frames of the input were taken is not part of the claim
    item = Item(
        data_set="audit", name=claim["name"], kind=claim["kind"], path=Path(claim["input"]), label=claim["label"]
    )
    original, decoded = load_item(item), _decode(claim)
    if claim["kind"] == "bytes":
        original = original[: len(decoded)]
    found = []
    for name, value in claim["scores"].items():
        again = find_scorer(name).score(item, original, decoded).value
        if abs(again - value) > SCORE_TOLERANCE * max(1.0, abs(value)):
            found.append(f"{name} of the decoded file is {again:.6g}, the row says {value:.6g}")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
