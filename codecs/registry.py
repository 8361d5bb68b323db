"""Finding codecs through the entry-point group ``codeckit.codecs``, loaded only when used."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..formats.errors import ExternalFailure, UnknownCodec
from .protocol import Codec

__all__ = ["CodecListing", "find_codec", "list_codecs"]

GROUP = "codeckit.codecs"
_REQUIRED = (
    "id kind summary lossless bitstream_version Params presets default_preset chunk_types axes "
    "encode rate_figures decode open describe"
).split()


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
    by_id = _by_id()
    if codec_id not in by_id:
        near = difflib.get_close_matches(codec_id, by_id, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known codecs: {', '.join(sorted(by_id))}"
        raise UnknownCodec(f"no codec is called {codec_id!r}; {hint}")
    points = by_id[codec_id]
    _refuse_duplicates(codec_id, points)
    codec: Codec[Any] = _load(points[0])()
    return codec


def list_codecs() -> list[CodecListing]:
    """Every registered codec by id, broken plug-ins with their error."""
    listings = []
    for codec_id, points in sorted(_by_id().items()):
        provider = ", ".join(sorted({_provider(point) for point in points}))
        try:
            _refuse_duplicates(codec_id, points)
            codec, error = _load(points[0]), None
        except ExternalFailure as failure:
            codec, error = None, str(failure)
        listings.append(CodecListing(id=codec_id, provider=provider, codec=codec, error=error))
    return listings


def _by_id() -> dict[str, list[EntryPoint]]:
    grouped: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        # the same distribution can be found twice on sys.path (an editable install and its folder)
        grouped.setdefault(point.name, {})[_provider(point), point.value] = point
    return {name: list(points.values()) for name, points in grouped.items()}


def _refuse_duplicates(codec_id: str, points: list[EntryPoint]) -> None:
    if len(points) > 1:
        providers = ", ".join(f"{_provider(point)} ({point.value})" for point in points)
        raise ExternalFailure(f"codec id {codec_id!r} is registered twice: {providers}; uninstall one of them")


def _load(point: EntryPoint) -> type[Codec[Any]]:
    try:
        loaded: type[Codec[Any]] = point.load()
    except Exception as error:  # a plug-in may fail in any way, and must not take the others down
        raise ExternalFailure(
            f"codec {point.name!r} of {_provider(point)} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    missing = [name for name in _REQUIRED if not hasattr(loaded, name)]
    if missing:
        raise ExternalFailure(
            f"codec {point.name!r} of {_provider(point)} lacks {', '.join(missing)} of the codec protocol"
        )
    if loaded.id != point.name:
        raise ExternalFailure(
            f"codec {point.name!r} of {_provider(point)} calls itself {loaded.id!r}; the two must agree"
        )
    return loaded


def _provider(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown distribution"
