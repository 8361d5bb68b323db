"""One interface for every codec that is compared: other formats in files of their own, and ours through codeckit.

A peer writes one complete file and reads it back; its size is the file's size on disk, headers, tables and all.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ..codecs.parameters import make_parameters
from ..codecs.plugins import nearest, plugins_by_name
from ..codecs.registry import GROUP
from ..formats.errors import ExternalFailure, InvalidParameter

__all__ = [
    "ORIGINAL",
    "PEERS",
    "NamedPeer",
    "NoParams",
    "Peer",
    "check_range",
    "content_form",
    "find_peer",
    "known_codecs",
    "load_optional",
    "peer_parameters",
    "pyav_version",
]

ORIGINAL = "original"

PEERS: Mapping[str, str] = {
    ORIGINAL: "peers_original:OriginalPeer",
    "jpeg": "peers_image:JpegPeer",
    "webp": "peers_image:WebpPeer",
    "avif": "peers_image:AvifPeer",
    "jpeg2000": "peers_image:Jpeg2000Peer",
    "png": "peers_image:PngPeer",
    "jpeg-xl": "peers_image:JpegXlPeer",
    "compressai-factorized": "peers_compressai:FactorizedPeer",
    "compressai-hyperprior": "peers_compressai:HyperpriorPeer",
    "compressai-mean-scale": "peers_compressai:MeanScalePeer",
    "compressai-cheng2020": "peers_compressai:Cheng2020Peer",
    "zstd": "peers_bytes:ZstdPeer",
    "xz": "peers_bytes:XzPeer",
    "brotli": "peers_bytes:BrotliPeer",
    "ppmd": "peers_bytes:PpmdPeer",
    "opus": "peers_audio:OpusPeer",
    "mp3": "peers_audio:Mp3Peer",
    "aac": "peers_audio:AacPeer",
    "amr": "peers_audio:AmrPeer",
    "flac": "peers_audio:FlacPeer",
    "x264": "peers_video:X264Peer",
    "x265": "peers_video:X265Peer",
    "svt-av1": "peers_video:SvtAv1Peer",
    "x264-stream": "peers_video:X264Stream",
    "x265-stream": "peers_video:X265Stream",
    "svt-av1-stream": "peers_video:SvtAv1Stream",
    "vp9": "peers_video:Vp9Peer",
    "raw": "peers_tensors:RawPeer",
    "int8": "peers_tensors:Int8Peer",
}


class Peer(Protocol):
    """A codec under comparison.

    ``kind`` is one of :data:`codeckit.benchmarks.items.ITEM_KINDS`, or ``any``. ``Params`` is a frozen dataclass of
    its settings, ``presets`` named values of them. ``suffix`` names its files.
    """

    name: str
    kind: str
    suffix: str
    Params: type
    presets: Mapping[str, Mapping[str, Any]]
    default_preset: str

    def version(self) -> str:
        """The version of the library that does the work; part of what identifies a result."""
        ...

    def encode(self, content: Any, source: Path, target: Path, params: Any) -> None:
        """Write ``content``, which was read from ``source``, to the new file ``target``."""
        ...

    def decode(self, path: Path, params: Any, form: Mapping[str, int]) -> Any:
        """Read the file back; ``form`` is what a player is told beside the file (:func:`content_form`)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NoParams:
    """A codec without settings."""


class NamedPeer:
    """What most peers share: no presets but the default values of their settings."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    default_preset: ClassVar[str] = "default"


def known_codecs() -> list[str]:
    """The names of everything that can be compared, peers and registered codecs."""
    return sorted({*PEERS, *plugins_by_name(GROUP)})


@lru_cache(maxsize=64)
def find_peer(name: str) -> Peer:
    """The peer, or the registered codec, called ``name``.

    Raises :class:`InvalidParameter` with the nearest name, :class:`ExternalFailure` for a broken plug-in.
    """
    if name in PEERS:
        module, _, attribute = PEERS[name].partition(":")
        peer: Peer = getattr(importlib.import_module(f".{module}", __package__), attribute)()
        return peer
    if name in plugins_by_name(GROUP):
        from .peers_codeckit import CodeckitPeer

        return CodeckitPeer(name)
    raise InvalidParameter(f"no codec is called {name!r}{nearest(name, known_codecs())}")


def peer_parameters(peer: Peer, preset: str | None, settings: Mapping[str, Any]) -> Any:
    """Validated parameters of ``peer``; raises :class:`InvalidParameter` naming the codec."""
    try:
        return make_parameters(peer.Params, peer.presets, preset or peer.default_preset, settings)
    except InvalidParameter as error:
        raise InvalidParameter(f"codec {peer.name}: {error}") from error


def content_form(kind: str, content: Any) -> dict[str, int]:
    """What a player of sound is told beside the file: the rate and number of samples to play; empty for the rest."""
    if kind == "audio":
        return {"rate": content.rate, "samples": len(content.samples)}
    return {}


def load_optional(module: str, package: str) -> Any:
    """Import an optional dependency; raises :class:`ExternalFailure` that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExternalFailure(f"{package} is not installed; pip install 'codeckit[bench]' brings it") from error


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`InvalidParameter` when ``value`` is outside ``low`` to ``high``."""
    if not low <= value <= high:
        raise InvalidParameter(f"{name} must be {low} to {high}, got {value}")


def pyav_version() -> str:
    """The version of the codecs that come with PyAV."""
    import av

    return f"PyAV {av.__version__} libavcodec {'.'.join(str(part) for part in av.library_versions['libavcodec'])}"
