"""The codec ``vectors``: embedding stores, at the point of the storage and quality plane that the user picks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ...formats.errors import InvalidParameter
from .file_header import FileHeader
from .parameters import VectorsParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.canonical_json import JsonValue
    from ...formats.header import Header
    from ...formats.reader import ContainerReader
    from ...formats.vector_sinks import VectorSink
    from ...formats.vector_source import VectorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure, Selection
    from ..run_context import RunContext
    from .reader import VectorsView

__all__ = ["VectorsCodec"]


class VectorsCodec:
    """Vectors [N, D] come back as float32; the codes are the same whatever the batches and the threads were."""

    id: ClassVar[str] = "vectors"
    kind: ClassVar[str] = "vectors"
    summary: ClassVar[str] = "embedding vectors [N, D]: PCA, float8 to binary, entropy coding; rows at random, search"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = VectorsParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "exact": {"dtype": "float32"},
        "quarter": {},
        "small": {"dtype": "int8", "pca": "100%", "calibration": "common"},
        "smaller": {"dtype": "int6", "pca": "100%", "calibration": "common"},
    }
    default_preset: ClassVar[str] = "quarter"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"VMOD", "VROW"})
    axes: ClassVar[frozenset[str]] = frozenset({"rows"})

    def encode(
        self, source: VectorSource, sink: ContainerWriter, params: VectorsParameters, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Fit what the stages need to a sample, then write the rows in blocks; every value must be finite."""
        from .encoding import encode_vectors  # imports numba

        return encode_vectors(source, sink, params, self.id, self.bitstream_version, context)

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Bytes of the whole file for each vector, and how much smaller than float32 that is."""
        found = FileHeader.from_header(header)
        if not found.rows:
            return {}
        return {
            "bytes_per_vector": round(output_bytes / found.rows, 3),
            "ratio_to_float32": round(4 * found.dimensions * found.rows / output_bytes, 4),
        }

    def decode(
        self, source: ContainerReader, sink: VectorSink, *, context: RunContext, selection: Selection | None = None
    ) -> Mapping[str, Figure]:
        """Write the vectors, or the selected ``rows``, as float32."""
        from .decoding import BlockIndex, decode_all, decode_range

        if selection is None:
            return {"rows": decode_all(source, sink, context)}
        if selection.settings:
            raise InvalidParameter(f"decode setting {next(iter(selection.settings))!r} is unknown; vectors has none")
        start, stop = selection.range_of("rows", BlockIndex(source).rows)
        decode_range(source, sink, start, stop, context)
        return {"rows": stop - start}

    def open(self, source: ContainerReader, *, context: RunContext) -> VectorsView:
        """A view whose ``vectors`` are indexed by rows."""
        from .reader import VectorsView

        return VectorsView(source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Shapes and stages of the file."""
        found = FileHeader.from_header(header)
        dtype = f"{found.dtype} + {found.bits - 1} bits" if found.dtype == "binary" and found.bits > 1 else found.dtype
        return {
            "vectors": "unknown before the end" if found.rows is None else found.rows,
            "dimensions": found.dimensions,
            "stored_dimensions": found.stored,
            "projection": found.projection,
            "dtype": dtype,
            "norms": "apart" if found.norms else "inside",
            "block_rows": found.block_rows,
        }
