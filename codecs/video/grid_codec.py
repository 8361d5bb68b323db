"""The codec ``gridnerv``: latent grids and a small network, fitted to a clip for rate and distortion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .clip_header import TIMES
from .grid_file import LATENTS, NETWORK, GridHeader
from .grid_parameters import PRESETS, GridParameters

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

__all__ = ["GridNeRVCodec"]


class GridNeRVCodec:
    """Latent grids of several resolutions in space and time and a small network, fitted for rate and distortion."""

    id: ClassVar[str] = "gridnerv"
    kind: ClassVar[str] = "video"
    summary: ClassVar[str] = "latent grids and a small network, fitted for rate and distortion; target sizes"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = GridParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    default_preset: ClassVar[str] = "quick"
    chunk_types: ClassVar[frozenset[str]] = frozenset({NETWORK, LATENTS, TIMES})
    axes: ClassVar[frozenset[str]] = frozenset({"frames"})

    def encode(
        self, source: VideoSource, sink: ContainerWriter, params: GridParameters, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Fit the clip segment by segment and write it.

        ``psnr_db`` is the mean over frames, of the data written; ``estimated_bytes`` what the fits believed
        ``network_bytes`` and ``latents_bytes`` to sum to.
        """
        from .grid_encoding import encode

        return encode(source, sink, params, codec=self.id, bitstream=self.bitstream_version, context=context)

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """``bpp``, bits per pixel of one frame, and ``kbit_s``, both from all bytes of the file."""
        return GridHeader.of(header).rate_figures(output_bytes)

    def decode(
        self, source: ContainerReader, sink: VideoSink, *, context: RunContext, selection: Selection | None = None
    ) -> Mapping[str, Figure]:
        """Write the frames, or the selected ones.

        Settings: ``fps`` (any frame rate, by interpolated latents), ``reduce`` (2 or 4: smaller pictures, computed as
        such), ``region`` (``LEFT,TOP,WIDTHxHEIGHT``: only that part is computed), ``precision`` (``bfloat16``: faster
        where the processor has it, samples may differ by two or so).
        """
        from .grid_decoding import decode

        return decode(source, sink, context=context, selection=selection)

    def open(self, source: ContainerReader, *, context: RunContext) -> VideoReader:
        """Random access: ``frames``, ``timestamps``, ``fps``, ``duration``, ``width``, ``height``."""
        from .grid_decoding import open_reader

        return open_reader(source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Size, length, segments and network of a file, from its header."""
        clip = GridHeader.of(header)
        return {**clip.describe(), "segments": len(clip.segments), **clip.structure.summary()}
