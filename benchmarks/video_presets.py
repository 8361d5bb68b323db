"""What ``codec bench video`` measures: clips, codecs and their settings, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..codecs.plugins import nearest
from ..formats.errors import InvalidParameter
from .hnerv_huffman import HUFFMAN

__all__ = ["ANCHORS", "ClipChoice", "Curve", "VideoPreset", "find_preset"]

ANCHORS = {"hnerv_huffman": HUFFMAN, "x265": "x265 medium"}
"""The curves that all others of a clip are compared with, by the name they have in rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipChoice:
    """A clip of the data folder, how it is read, and how many passes over it every fit takes."""

    data_set: str
    size: str
    frames: str
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A codec at several settings. ``fitted`` codecs learn the clip; the others are peers of ``benchmarks/peers``."""

    label: str
    codec: str
    fitted: bool
    points: tuple[Mapping[str, str], ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    preset: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPreset:
    """Every curve on every clip."""

    clips: tuple[ClipChoice, ...]
    curves: tuple[Curve, ...]


def find_preset(name: str) -> VideoPreset:
    """The preset called ``name``; raises :class:`InvalidParameter` with the nearest."""
    if name not in _PRESETS:
        raise InvalidParameter(f"no preset is called {name!r}{nearest(name, _PRESETS)}")
    return _PRESETS[name]


def _each(name: str, *values: object) -> tuple[Mapping[str, str], ...]:
    return tuple({name: str(value)} for value in values)


def _block_codecs(*, x26x: tuple[int, ...], av1: tuple[int, ...]) -> Iterator[Curve]:
    """At two speeds each, as bare streams."""
    for codec, speeds, qualities in (
        ("x264", ("medium", "veryslow"), x26x),
        ("x265", ("medium", "slow"), x26x),
        ("svt-av1", ("8", "4"), av1),
    ):
        for speed in speeds:
            yield Curve(
                label=f"{codec} {speed}",
                codec=f"{codec}-stream",
                fitted=False,
                settings={"speed": speed},
                points=_each("crf", *qualities),
            )


def _small_networks() -> tuple[Mapping[str, str], ...]:
    """Sizes in million parameters; below 0.1 the published least width, 12, would keep HNeRV larger than asked for."""
    sizes = (("0.03", "6"), ("0.2", "12"), ("0.08", "10"))
    return tuple({"model_size": size, "lower_width": width} for size, width in sizes)


_FIT = {"batch": "2", "seed": "1"}
_QUICK_NERVPP = {**_FIT, "variant": "tapered"}
_PAPER_NERVPP = {**_FIT, "variant": "paper", "strides": "5,2,2,2,2", "lr": "5e-4"}

_PRESETS: Mapping[str, VideoPreset] = {
    # a clip of each kind in small pictures, for two CPU cores
    "cpu": VideoPreset(
        clips=(
            ClipChoice(data_set="bigbuckbunny", size="320x160", frames="0:32", epochs=30),
            ClipChoice(data_set="bikes", size="480x256", frames="0:32", epochs=12),
        ),
        curves=(
            Curve(label="hnerv", codec="hnerv", fitted=True, preset="quick", settings=_FIT, points=_small_networks()),
            Curve(
                label="nerv++ tapered",
                codec="nerv++",
                fitted=True,
                preset="quick",
                settings=_QUICK_NERVPP,
                points=_small_networks(),
            ),
            Curve(
                label="gridnerv",
                codec="gridnerv",
                fitted=True,
                preset="quick",
                settings=_FIT,
                points=_each("lmbda", "1.6e-2", "6.4e-2", "2.56e-1", "4e-3"),
            ),
            *_block_codecs(x26x=(22, 30, 38, 46), av1=(32, 44, 54, 62)),
            Curve(
                label="nerv++ paper",
                codec="nerv++",
                fitted=True,
                preset="quick",
                settings=_PAPER_NERVPP,
                points=_each("model_size", 1.3),
            ),
        ),
    ),
    # the clip of the papers, for a GPU
    "gpu": VideoPreset(
        clips=(ClipChoice(data_set="bigbuckbunny", size="1280x640", frames="0:132", epochs=300),),
        curves=(
            Curve(
                label="hnerv",
                codec="hnerv",
                fitted=True,
                preset="paper-1.5m",
                settings={**_FIT, "precision": "auto"},
                points=_each("model_size", 0.35, 0.75, 1.5, 3.0),
            ),
            Curve(
                label="nerv++ tapered",
                codec="nerv++",
                fitted=True,
                preset="quick",
                settings={**_QUICK_NERVPP, "lr": "1e-3", "encoder_width": "64"},
                points=_each("model_size", 0.35, 0.75, 1.5, 3.0),
            ),
            Curve(
                label="nerv++ paper",
                codec="nerv++",
                fitted=True,
                preset="paper-xs",
                settings={"precision": "auto"},
                points=_each("model_size", 1.5, 3.0),
            ),
            Curve(
                label="gridnerv",
                codec="gridnerv",
                fitted=True,
                preset="thorough",
                settings={**_FIT, "widths": "128,128,64", "blocks": "2,3,3"},
                points=_each("target_bpp", 0.02, 0.035, 0.05, 0.1),
            ),
            *_block_codecs(x26x=(22, 27, 32, 37, 42), av1=(30, 40, 50, 60)),
        ),
    ),
    # does memory grow with the clip? segments of 24 frames, one or five of them
    "length": VideoPreset(
        clips=tuple(
            ClipChoice(data_set="carphone", size="176x144", frames=frames, epochs=2) for frames in ("0:24", "0:120")
        ),
        curves=(
            Curve(
                label="gridnerv",
                codec="gridnerv",
                fitted=True,
                preset="quick",
                settings={**_FIT, "longest_segment": "24"},
                points=_each("lmbda", "5e-3"),
            ),
        ),
    ),
    # every code path in seconds
    "smoke": VideoPreset(
        clips=(ClipChoice(data_set="carphone", size="64x48", frames="0:4", epochs=2),),
        curves=(
            Curve(
                label="hnerv",
                codec="hnerv",
                fitted=True,
                preset="quick",
                settings={**_FIT, "strides": "4,4", "encoder_width": "8"},
                points=_each("model_size", 0.02),
            ),
            Curve(
                label="nerv++ tapered",
                codec="nerv++",
                fitted=True,
                preset="quick",
                settings={**_QUICK_NERVPP, "strides": "4,4", "encoder_width": "8"},
                points=_each("model_size", 0.03),
            ),
            Curve(label="x265 medium", codec="x265-stream", fitted=False, points=_each("crf", 30)),
        ),
    ),
}
