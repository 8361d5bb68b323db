"""The uncompressed baseline: the file as it came, whatever its format."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..formats.errors import InvalidParameter
from .peers import ORIGINAL, NamedPeer, NoParams

__all__ = ["OriginalPeer"]


class OriginalPeer(NamedPeer):
    """Copies the input file; what comes back is what the harness itself read, so every score is the baseline's."""

    name = ORIGINAL
    kind = "any"
    suffix = ""
    Params = NoParams

    def version(self) -> str:
        return "1"

    def encode(self, content: Any, source: Path, target: Path, params: NoParams) -> None:
        shutil.copyfile(source, target)

    def decode(self, path: Path, params: NoParams, form: Mapping[str, int]) -> Any:
        """Never called: the worker scores the content that it read from the very same bytes."""
        raise InvalidParameter("the original is not decoded; it is scored as read")
