"""The codec ``nerv++``: NeRV's decoder with separable residual blocks around every upsampling, as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .nervpp_parameters import PRESETS, NeRVPlusPlusParameters
from .nervpp_structure import NeRVPlusPlusStructure
from .network_codec import NetworkCodec
from .network_file import NetworkHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.header import Header
    from .nervpp_encoding import NeRVPlusPlusFit

__all__ = ["NeRVPlusPlusCodec"]


class NeRVPlusPlusCodec(NetworkCodec[NeRVPlusPlusStructure]):
    """NeRV++ (Ghorbel et al., arXiv 2402.18305): 8-bit decoder weights, and embeddings in the variant ``tapered``."""

    id: ClassVar[str] = "nerv++"
    summary: ClassVar[str] = "NeRV++: HNeRV's way with separable residual blocks; as published, or of sensible width"
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = NeRVPlusPlusParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    default_preset: ClassVar[str] = "quick"

    def _fit(self, params: NeRVPlusPlusParameters) -> NeRVPlusPlusFit:
        from .nervpp_encoding import NeRVPlusPlusFit

        return NeRVPlusPlusFit(params)

    def _header(self, header: Header) -> NetworkHeader[NeRVPlusPlusStructure]:
        return NetworkHeader.of(header, NeRVPlusPlusStructure.from_json)
