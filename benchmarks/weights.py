"""Weights of perception models by name: each with its hash, licence and origin, found in a folder or downloaded once.

A file is looked for in the folder ``CODECKIT_WEIGHTS``, under the data folder, and in the user's cache; then it is
downloaded into the cache. Whatever is found must have the hash that is written here: there is no substitute.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..formats.atomic_file import AtomicFile
from ..formats.errors import CodecError, ExternalFailure
from .data_sets import named_file

__all__ = ["WEIGHTS", "Weights", "cache_folder", "read_weights", "weights_path"]

DOWNLOAD_SECONDS = 20.0
MAX_DOWNLOAD_BYTES = 1 << 30
_CORAL = "https://raw.githubusercontent.com/google-coral/test_data/master/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """``sha256`` is the whole identity; ``url`` None means that it must be put in place by hand."""

    file: str
    sha256: str
    licence: str
    origin: str
    url: str | None = None


def _coral(file: str, sha256: str) -> Weights:
    return Weights(file=file, sha256=sha256, licence="Apache-2.0", origin="google-coral/test_data", url=_CORAL + file)


WEIGHTS: Mapping[str, Weights] = {
    "mobilenet-v1-0.25": _coral(
        "mobilenet_v1_0.25_128_quant.tflite", "cb273c23ee76374b05b9583177e28aa19744858a7679c56a250e83d0333da785"
    ),
    "mobilenet-v1-0.75": _coral(
        "mobilenet_v1_0.75_192_quant.tflite", "41daeb22fdcf947e0e5ec32373aa9df7c31f3ef45dbd0ef7b5940fbce3c20f6a"
    ),
    "mobilenet-v2": _coral(
        "mobilenet_v2_1.0_224_quant.tflite", "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776"
    ),
    "deeplab-v3": _coral(
        "deeplabv3_mnv2_dm05_pascal_quant.tflite", "0470d2a782aa54eeeb99d32e7b6b3fb7722905c7c4f5d26bd957ec861366d48b"
    ),
}


def cache_folder() -> Path:
    """Where downloads and trained models are kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "codeckit"


@lru_cache(maxsize=16)
def weights_path(name: str) -> Path:
    """The checked file of the weights called ``name``; raises :class:`ExternalFailure` when it cannot be had."""
    weights = WEIGHTS[name]
    folder = os.environ.get("CODECKIT_WEIGHTS")
    cached = cache_folder() / "weights" / weights.file
    places = [Path(folder) / weights.file] if folder else []
    places += [path for path in (named_file(f"models/{weights.file}"), cached) if path is not None]
    for path in places:
        if path.is_file():
            _check(name, path.read_bytes(), str(path))
            return path
    if weights.url is None:
        raise ExternalFailure(
            f"weights unobtainable: {weights.file} ({weights.origin}) is not here; put it in {cached.parent}"
        )
    _download(name, weights.url, cached)
    return cached


def read_weights(name: str) -> bytes:
    """The bytes of the weights called ``name``; raises :class:`ExternalFailure` when they cannot be had."""
    return weights_path(name).read_bytes()


def _download(name: str, url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as stream:
            data = stream.read(MAX_DOWNLOAD_BYTES)
    except OSError as error:
        raise ExternalFailure(f"weights unobtainable: {url} does not answer: {error}") from error
    _check(name, data, url)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with AtomicFile(target, overwrite=True) as output:
            output.stream.write(data)
            output.commit()
    except CodecError as error:
        raise ExternalFailure(f"weights of {name} cannot be kept: {error}") from error


def _check(name: str, data: bytes, where: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != WEIGHTS[name].sha256:
        raise ExternalFailure(f"weights of {name}: {where} has the hash {found}, not {WEIGHTS[name].sha256}")
