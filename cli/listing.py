"""``codec list``."""

from __future__ import annotations

import argparse
from typing import Any

from ..codecs.parameters import describe_parameters
from ..codecs.protocol import Codec
from ..codecs.registry import CodecListing, list_codecs
from .output import print_json, print_table

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Show the codecs, broken plug-ins with their error."""
    listings = list_codecs()
    if options.json:
        for listing in listings:
            print_json(_as_json(listing))
        return 0
    rows = [
        (
            listing.id,
            listing.codec.kind if listing.codec else "broken",
            listing.codec.bitstream_version if listing.codec else None,
            listing.codec.summary if listing.codec else listing.error,
        )
        for listing in listings
    ]
    print_table(rows, ("codec", "kind", "version", "what it is"))
    if options.settings:
        for listing in listings:
            if listing.codec is not None:
                _show_settings(listing.codec)
    return 0


def _show_settings(codec: type[Codec[Any]]) -> None:
    print(f"\n{codec.id}: presets {', '.join(codec.presets)} (default {codec.default_preset})")
    rows = [(item.name, item.type, item.default, item.help) for item in describe_parameters(codec.Params)]
    print_table(rows, ("setting", "type", "default", "meaning"))


def _as_json(listing: CodecListing) -> dict[str, Any]:
    codec = listing.codec
    if codec is None:
        return {
            "command": "list",
            "codec": listing.id,
            "provider": listing.provider,
            "error": listing.error,
        }
    return {
        "command": "list",
        "codec": codec.id,
        "provider": listing.provider,
        "kind": codec.kind,
        "summary": codec.summary,
        "lossless": codec.lossless,
        "bitstream_version": codec.bitstream_version,
        "presets": list(codec.presets),
        "default_preset": codec.default_preset,
        "selections": sorted(codec.axes),
    }
