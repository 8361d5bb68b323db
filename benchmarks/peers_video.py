"""Video formats in container files through PyAV: H.264, H.265, AV1 and VP9, 4:2:0, one thread."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..formats.errors import InvalidParameter, UnsupportedInput
from .items import Clip
from .peers import NamedPeer, check_range, pyav_version

__all__ = ["SvtAv1Peer", "SvtAv1Stream", "Vp9Peer", "X264Peer", "X264Stream", "X265Peer", "X265Stream"]

_SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")


class _VideoPeer(NamedPeer, ABC):
    kind = "video"
    _encoder: str

    def version(self) -> str:
        return pyav_version()

    def encode(self, content: Clip, source: Path, target: Path, params: Any) -> None:
        import av

        _, height, width, _ = content.frames.shape
        if height % 2 or width % 2:
            raise UnsupportedInput(f"{width}x{height} pictures have no 4:2:0 form; choose an even size")
        with av.open(str(target), "w") as container:
            stream: Any = container.add_stream(self._encoder, rate=content.rate, options=self._options(params))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            for number, picture in enumerate(content.frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    def decode(self, path: Path, params: Any, form: Mapping[str, int]) -> Clip:
        import av
        import numpy as np

        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            return Clip(np.stack(frames), stream.average_rate or stream.guessed_rate)

    @abstractmethod
    def _options(self, params: Any) -> dict[str, str]:
        """What is handed to the encoder for ``params``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSpeedParams:
    """``crf`` 0 (best) to 51, ``speed`` from ultrafast to placebo."""

    crf: float = 23.0
    speed: str = "medium"

    def __post_init__(self) -> None:
        check_range("crf", self.crf, 0, 51)
        if self.speed not in _SPEEDS:
            raise InvalidParameter(f"speed={self.speed} is not one of {', '.join(_SPEEDS)}")


class X264Peer(_VideoPeer):
    """H.264 of x264 in MP4."""

    name = "x264"
    suffix = ".mp4"
    Params = NamedSpeedParams
    _encoder = "libx264"

    def _options(self, params: NamedSpeedParams) -> dict[str, str]:
        return {"crf": f"{params.crf:g}", "preset": params.speed}


class X265Peer(_VideoPeer):
    """H.265 of x265 in MP4."""

    name = "x265"
    suffix = ".mp4"
    Params = NamedSpeedParams
    _encoder = "libx265"

    def _options(self, params: NamedSpeedParams) -> dict[str, str]:
        quiet = "pools=1:frame-threads=1:log-level=error"
        return {"crf": f"{params.crf:g}", "preset": params.speed, "x265-params": quiet}


@dataclass(frozen=True, slots=True, kw_only=True)
class SvtAv1Params:
    """``crf`` 1 (best) to 63, ``speed`` 0 (slow) to 13."""

    crf: int = 35
    speed: int = 8

    def __post_init__(self) -> None:
        check_range("crf", self.crf, 1, 63)
        check_range("speed", self.speed, 0, 13)


class SvtAv1Peer(_VideoPeer):
    """AV1 of SVT-AV1 in MP4."""

    name = "svt-av1"
    suffix = ".mp4"
    Params = SvtAv1Params
    _encoder = "libsvtav1"

    def encode(self, content: Clip, source: Path, target: Path, params: SvtAv1Params) -> None:
        os.environ.setdefault("SVT_LOG", "1")  # the library prints its settings otherwise; 1 is errors alone
        with _kept_scheduling():
            super().encode(content, source, target, params)

    def _options(self, params: SvtAv1Params) -> dict[str, str]:
        return {"crf": str(params.crf), "preset": str(params.speed), "svtav1-params": "lp=1"}


@contextmanager
def _kept_scheduling() -> Iterator[None]:
    """Undo that SVT-AV1, run by root, puts the whole process in the real-time class for good.

    All threads made later would inherit it, and spinning ones would starve everything else on the machine.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    process = os.getpid()
    policy, parameters = os.sched_getscheduler(process), os.sched_getparam(process)
    try:
        yield
    finally:
        if os.sched_getscheduler(process) != policy:
            os.sched_setscheduler(process, policy, parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vp9Params:
    """``crf`` 0 (best) to 63 at unconstrained rate, ``speed`` 0 (slow) to 8."""

    crf: int = 32
    speed: int = 2

    def __post_init__(self) -> None:
        check_range("crf", self.crf, 0, 63)
        check_range("speed", self.speed, 0, 8)


class Vp9Peer(_VideoPeer):
    """VP9 of libvpx in WebM."""

    name = "vp9"
    suffix = ".webm"
    Params = Vp9Params
    _encoder = "libvpx-vp9"

    def _options(self, params: Vp9Params) -> dict[str, str]:
        return {"crf": str(params.crf), "b": "0", "cpu-used": str(params.speed), "deadline": "good"}


class X264Stream(X264Peer):
    """H.264 of x264 as a bare Annex B stream: in short clips MP4's tables are a good part of the file."""

    name = "x264-stream"
    suffix = ".h264"


class X265Stream(X265Peer):
    """H.265 of x265 as a bare Annex B stream, without the message that repeats the encoder's options."""

    name = "x265-stream"
    suffix = ".hevc"

    def _options(self, params: NamedSpeedParams) -> dict[str, str]:
        options = super()._options(params)
        return {**options, "x265-params": options["x265-params"] + ":info=0"}


class SvtAv1Stream(SvtAv1Peer):
    """AV1 of SVT-AV1 as a bare stream of OBUs."""

    name = "svt-av1-stream"
    suffix = ".obu"
