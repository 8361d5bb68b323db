"""Registered codecs, ours and third parties', through the public face of codeckit."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import codeckit

from ..codecs.registry import find_codec
from ..codecs.run_context import RunContext
from .items import Clip

__all__ = ["CodeckitPeer"]


class CodeckitPeer:
    """A registered codec, on one thread of the processor so that times compare with the peers'."""

    suffix = ".ck"

    def __init__(self, name: str) -> None:
        codec = find_codec(name)
        self.name = name
        self.kind = codec.kind
        self.Params = codec.Params
        self.presets: Mapping[str, Mapping[str, Any]] = codec.presets
        self.default_preset = codec.default_preset
        self._bitstream = codec.bitstream_version

    def version(self) -> str:
        return f"codeckit {codeckit.__version__} bitstream {self._bitstream}"

    def encode(self, content: Any, source: Path, target: Path, params: Any) -> None:
        value = content.frames if isinstance(content, Clip) else content
        settings = {field: getattr(params, field) for field in self.Params.__dataclass_fields__}  # type: ignore[attr-defined]
        codeckit.encode(value, target, codec=self.name, settings=settings, context=_context())

    def decode(self, path: Path, params: Any, form: Mapping[str, int]) -> Any:
        value = codeckit.decode(path, context=_context())
        # arrays carry no timing, and nothing that is scored depends on it
        return Clip(value, Fraction(25)) if self.kind == "video" else value


def _context() -> RunContext:
    return RunContext(device="cpu", threads=1)
