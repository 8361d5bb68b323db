"""The codec ``hnerv``: a network that has learned one clip, as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .hnerv_parameters import PRESETS, HNeRVParameters
from .hnerv_structure import Structure
from .network_codec import NetworkCodec
from .network_file import NetworkHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.header import Header
    from .hnerv_encoding import HNeRVFit

__all__ = ["HNeRVCodec"]


class HNeRVCodec(NetworkCodec[Structure]):
    """HNeRV (Chen et al., arXiv 2304.02633): 8-bit decoder weights and 6-bit frame embeddings, entropy-coded."""

    id: ClassVar[str] = "hnerv"
    summary: ClassVar[str] = "HNeRV: a small network learns the clip; its weights are the file"
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = HNeRVParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    default_preset: ClassVar[str] = "quick"

    def _fit(self, params: HNeRVParameters) -> HNeRVFit:
        from .hnerv_encoding import HNeRVFit

        return HNeRVFit(params)

    def _header(self, header: Header) -> NetworkHeader[Structure]:
        return NetworkHeader.of(header, Structure.from_json)
