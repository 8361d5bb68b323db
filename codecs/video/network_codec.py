"""What the codecs of networks that have learned one clip share: all but the network and how it is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from .network_file import EMBEDDINGS, TIMES, WEIGHTS, NetworkHeader
from .network_structure import NetworkStructure

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
    from .network_encoding import NetworkFit
    from .reader import VideoReader

__all__ = ["NetworkCodec"]

S = TypeVar("S", bound=NetworkStructure)


class NetworkCodec(ABC, Generic[S]):
    """A codec whose file is a network of structure ``S``; the subclasses say which and fit it."""

    id: ClassVar[str]
    kind: ClassVar[str] = "video"
    summary: ClassVar[str]
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int]
    Params: ClassVar[type]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    default_preset: ClassVar[str]
    chunk_types: ClassVar[frozenset[str]] = frozenset({WEIGHTS, EMBEDDINGS, TIMES})
    axes: ClassVar[frozenset[str]] = frozenset({"frames"})

    @abstractmethod
    def _fit(self, params: Any) -> NetworkFit[S]:
        """How a network is chosen and fitted under ``params``."""

    @abstractmethod
    def _header(self, header: Header) -> NetworkHeader[S]:
        """A file's header parsed; raises :class:`CorruptFile`."""

    def encode(
        self, source: VideoSource, sink: ContainerWriter, params: Any, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Fit a network to the clip and write it; ``psnr_db`` is the mean over frames, of the data written."""
        from .network_encoding import encode

        network = self._fit(params)
        return encode(source, sink, params, network, codec=self.id, bitstream=self.bitstream_version, context=context)

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """``bpp``, bits per pixel of one frame, and ``kbit_s``, both from all bytes of the file."""
        return self._header(header).rate_figures(output_bytes)

    def decode(
        self, source: ContainerReader, sink: VideoSink, *, context: RunContext, selection: Selection | None = None
    ) -> Mapping[str, Figure]:
        """Write the frames, or the selected ones; setting ``batch``: how many the network makes at once."""
        from .network_decoding import decode

        return decode(self._header(source.header), source, sink, context=context, selection=selection)

    def open(self, source: ContainerReader, *, context: RunContext) -> VideoReader:
        """Random access: ``frames``, ``timestamps``, ``fps``, ``duration``, ``width``, ``height``."""
        from .network_decoding import open_reader

        return open_reader(self._header(source.header), source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Size, length and network of a file, from its header."""
        clip = self._header(header)
        return {**clip.describe(), **clip.structure.summary()}
