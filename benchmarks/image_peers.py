"""Other lossless image formats through Pillow, each on one thread: PNG, WebP, JPEG 2000 and JPEG XL."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..formats.errors import ExternalFailure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IMAGE_PEERS", "ImagePeer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePeer:
    """A format of Pillow's and the options that make it lossless; ``plugin`` is a module that registers it."""

    codec: str
    preset: str
    format: str
    options: Mapping[str, Any]
    plugin: str | None = None

    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """The whole file for uint8 ``pixels`` ``[height, width, 3]``."""
        from PIL import Image

        self._register()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, **self.options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The pixels of a file."""
        import numpy as np
        from PIL import Image

        self._register()
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def _register(self) -> None:
        if self.plugin is None:
            return
        from importlib import import_module

        try:
            import_module(self.plugin)
        except ImportError as error:
            raise ExternalFailure(
                f"{self.codec} needs a Pillow plug-in ({error}); pip install codeckit[bench]"
            ) from error


def _jpeg_xl(effort: int) -> ImagePeer:
    options = {"lossless": True, "effort": effort, "num_threads": 1}
    return ImagePeer(codec="jpeg-xl", preset=f"effort {effort}", format="JXL", options=options, plugin="pillow_jxl")


IMAGE_PEERS = (
    ImagePeer(codec="png", preset="optimised", format="PNG", options={"optimize": True}),
    ImagePeer(codec="webp", preset="method 6", format="WEBP", options={"lossless": True, "quality": 100, "method": 6}),
    ImagePeer(codec="jpeg2000", preset="5/3", format="JPEG2000", options={"irreversible": False, "mct": 1}),
    _jpeg_xl(7),
    _jpeg_xl(9),
)
