"""Finding codecs through the entry-point group ``codeckit.codecs``, loaded only when used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from ..formats.errors import ExternalFailure, UnknownCodec
from .plugins import load_plugin, nearest, plugin_provider, plugins_by_name, refuse_duplicates
from .protocol import Codec

__all__ = ["CodecListing", "find_codec", "list_codecs"]

GROUP = "codeckit.codecs"
_REQUIRED = (
    "id",
    "kind",
    "summary",
    "lossless",
    "bitstream_version",
    "Params",
    "presets",
    "default_preset",
    "chunk_types",
    "axes",
    "encode",
    "rate_figures",
    "decode",
    "open",
    "describe",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecListing:
    """One registered codec: either its class or the reason it cannot be used."""

    id: str
    provider: str
    codec: type[Codec[Any]] | None
    error: str | None


def find_codec(codec_id: str) -> Codec[Any]:
    """An instance of the codec called ``codec_id``.

    Raises :class:`UnknownCodec` (with the nearest name) and :class:`ExternalFailure` (broken or duplicate plug-in).
    """
    known = plugins_by_name(GROUP)
    if codec_id not in known:
        raise UnknownCodec(f"no codec is called {codec_id!r}{nearest(codec_id, known)}")
    refuse_duplicates("codec", codec_id, known[codec_id])
    codec: Codec[Any] = _load(known[codec_id][0])()
    return codec


def list_codecs() -> list[CodecListing]:
    """Every registered codec by id, broken plug-ins with their error."""
    listings = []
    for codec_id, points in plugins_by_name(GROUP).items():
        provider = ", ".join(sorted({plugin_provider(point) for point in points}))
        codec: type[Codec[Any]] | None = None
        problem: str | None = None
        try:
            refuse_duplicates("codec", codec_id, points)
            codec = _load(points[0])
        except ExternalFailure as failure:
            problem = str(failure)
        listings.append(CodecListing(id=codec_id, provider=provider, codec=codec, error=problem))
    return listings


def _load(point: EntryPoint) -> type[Codec[Any]]:
    loaded: type[Codec[Any]] = load_plugin(point, "codec")
    provider = plugin_provider(point)
    missing = [name for name in _REQUIRED if not hasattr(loaded, name)]
    if missing:
        raise ExternalFailure(f"codec {point.name!r} of {provider} lacks {', '.join(missing)} of the codec protocol")
    if loaded.id != point.name:
        raise ExternalFailure(f"codec {point.name!r} of {provider} calls itself {loaded.id!r}; the two must agree")
    return loaded
