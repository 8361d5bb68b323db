"""The codec ``nerv++``: NeRV's decoder with separable residual blocks around every upsampling, as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .nervpp_parameters import PRESETS, NeRVPlusPlusParameters
from .nervpp_structure import NeRVPlusPlusStructure
from .network_file import EMBEDDINGS, TIMES, WEIGHTS, NetworkHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.canonical_json import JsonValue
    from ...formats.header import Header
    from ...formats.media_sink import VideoSink
    from ...formats.media_source import VideoSource
    from ...formats.reader import ContainerReader
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure, Selection
    from ..run_context import RunContext
    from .reader import VideoReader

__all__ = ["NeRVPlusPlusCodec"]


class NeRVPlusPlusCodec:
    """NeRV++ (Ghorbel et al., arXiv 2402.18305): 8-bit decoder weights, and embeddings in the variant ``tapered``."""

    id: ClassVar[str] = "nerv++"
    kind: ClassVar[str] = "video"
    summary: ClassVar[str] = "NeRV++: HNeRV's way with separable residual blocks; as published, or of sensible width"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = NeRVPlusPlusParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    default_preset: ClassVar[str] = "quick"
    chunk_types: ClassVar[frozenset[str]] = frozenset({WEIGHTS, EMBEDDINGS, TIMES})
    axes: ClassVar[frozenset[str]] = frozenset({"frames"})

    def encode(
        self, source: VideoSource, sink: ContainerWriter, params: NeRVPlusPlusParameters, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Fit a network to the clip and write it; ``psnr_db`` is the mean over frames, of the data written."""
        from .nervpp_encoding import NeRVPlusPlusFit
        from .network_encoding import encode

        network = NeRVPlusPlusFit(params)
        return encode(source, sink, params, network, codec=self.id, bitstream=self.bitstream_version, context=context)

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """``bpp``, bits per pixel of one frame, and ``kbit_s``, both from all bytes of the file."""
        return _header(header).rate_figures(output_bytes)

    def decode(
        self, source: ContainerReader, sink: VideoSink, *, context: RunContext, selection: Selection | None = None
    ) -> Mapping[str, Figure]:
        """Write the frames, or the selected ones; setting ``batch``: how many the network makes at once."""
        from .network_decoding import decode

        return decode(_header(source.header), source, sink, context=context, selection=selection)

    def open(self, source: ContainerReader, *, context: RunContext) -> VideoReader:
        """Random access: ``frames``, ``timestamps``, ``fps``, ``duration``, ``width``, ``height``."""
        from .network_decoding import open_reader

        return open_reader(_header(source.header), source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Size, length and network of a file, from its header."""
        clip = _header(header)
        return {**clip.describe(), **clip.structure.summary()}


def _header(header: Header) -> NetworkHeader[NeRVPlusPlusStructure]:
    return NetworkHeader.of(header, NeRVPlusPlusStructure.from_json)
