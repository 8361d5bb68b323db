"""CompressAI's lossy image codecs with the weights that CompressAI publishes, skipped where those cannot be downloaded.

CompressAI defines no file: here it is width and height, the height and width of the smallest latent (16 bits
each), the number of strings (8 bits), and each string behind its length (32 bits), little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..formats.errors import CorruptFile, ExternalFailure
from .peers import NamedPeer, check_range, load_optional

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Cheng2020Peer", "FactorizedPeer", "HyperpriorPeer", "MeanScalePeer", "load_model"]

_HEADER = struct.Struct("<HHHHB")
_LENGTH = struct.Struct("<I")
# the deepest of these networks halves the picture so often
_MULTIPLE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressAIParams:
    """``quality`` 1 (smallest) to 6: the published model of that number, trained for mean square error."""

    quality: int = 3

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 1, 6)


class _CompressAIPeer(NamedPeer):
    kind = "image"
    suffix = ".cai"
    Params = CompressAIParams
    name: str
    _model: str

    def version(self) -> str:
        load_model(self._model, CompressAIParams().quality)
        return f"compressai {version('compressai')} {self._model}"

    def encode(self, content: NDArray[np.uint8], source: Path, target: Path, params: CompressAIParams) -> None:
        import torch

        height, width, _ = content.shape
        picture = torch.from_numpy(content.copy()).permute(2, 0, 1)[None].float() / 255
        padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        padded = torch.nn.functional.pad(picture, padding, mode="replicate")
        with torch.inference_mode():
            coded = load_model(self._model, params.quality).compress(padded)
        strings = [one[0] for one in coded["strings"]]
        parts = [_HEADER.pack(width, height, *coded["shape"], len(strings))]
        parts += [part for string in strings for part in (_LENGTH.pack(len(string)), string)]
        target.write_bytes(b"".join(parts))

    def decode(self, path: Path, params: CompressAIParams, form: Mapping[str, int]) -> NDArray[np.uint8]:
        import torch

        width, height, shape, strings = _read(path.read_bytes())
        with torch.inference_mode():
            decoded = load_model(self._model, params.quality).decompress([[one] for one in strings], shape)["x_hat"]
        picture = decoded[0, :, :height, :width].clamp(0, 1).mul(255).round().byte()
        return picture.permute(1, 2, 0).contiguous().numpy()  # type: ignore[no-any-return]


class FactorizedPeer(_CompressAIPeer):
    """Factorised prior (Ballé et al. 2018)."""

    name = "compressai-factorized"
    _model = "bmshj2018-factorized"


class HyperpriorPeer(_CompressAIPeer):
    """Scale hyperprior (Ballé et al. 2018)."""

    name = "compressai-hyperprior"
    _model = "bmshj2018-hyperprior"


class MeanScalePeer(_CompressAIPeer):
    """Mean and scale hyperprior (Minnen et al. 2018)."""

    name = "compressai-mean-scale"
    _model = "mbt2018-mean"


class Cheng2020Peer(_CompressAIPeer):
    """Anchor model of Cheng et al. 2020, with an autoregressive context."""

    name = "compressai-cheng2020"
    _model = "cheng2020-anchor"


@lru_cache(maxsize=8)
def load_model(name: str, quality: int) -> Any:
    """The published model; raises :class:`ExternalFailure` when its weights cannot be had."""
    zoo: Any = load_optional("compressai.zoo", "compressai")
    try:
        model = zoo.image_models[name](quality=quality, metric="mse", pretrained=True, progress=False)
    except (OSError, RuntimeError) as error:
        raise ExternalFailure(f"weights unobtainable: those of {name} do not download: {error}") from error
    return model.eval()


def _read(data: bytes) -> tuple[int, int, tuple[int, int], list[bytes]]:
    try:
        width, height, latent_height, latent_width, count = _HEADER.unpack_from(data)
        strings, place = [], _HEADER.size
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, place)
            place += _LENGTH.size
            strings.append(data[place : place + length])
            place += length
    except struct.error as error:
        raise CorruptFile(f"the file ends early: {error}") from error
    if place != len(data):
        raise CorruptFile(f"the strings take {place} bytes of a file of {len(data)}")
    return width, height, (latent_height, latent_width), strings
