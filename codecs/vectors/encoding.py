"""Fitting what the blocks of a file share, and writing them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from ...formats.errors import LimitExceeded
from ...formats.header import Header
from .block_payload import Block, encode_block, lanes_of, table_bits
from .calibration import float_exponent, uniform_levels
from .element_types import FLOATS, UNIFORM_BITS
from .file_header import MAX_BLOCK_VALUES, MAX_ROWS, FileHeader
from .model import FileModel, write_model
from .ordered_threads import in_order, thread_count
from .pca_setting import parse_pca
from .projection import Projection, fit_pca, load_projection, random_projection
from .quantiser import Quantiser
from .symbol_tables import count_symbols, fit_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...formats.vector_source import VectorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .parameters import VectorsParameters

    Floats = NDArray[np.float32]

__all__ = ["BlockWriter", "encode_vectors"]

MODEL, ROWS = "VMOD", "VROW"
_BLOCK_VALUES = 1 << 20
_TABLE_ROWS = 8192


def encode_vectors(
    source: VectorSource,
    sink: ContainerWriter,
    params: VectorsParameters,
    codec: str,
    version: int,
    context: RunContext,
) -> dict[str, Figure]:
    """Write header, model and blocks; returns how many rows there were and how many values were too large."""
    sample = source.sample(params.sample)
    # more threads of linear algebra would give other last bits, and with them another file
    with threadpool_limits(1, user_api="blas"):
        header, model, figures = _fit(sample, source, params, context.seed)
    del sample
    sink.write_header(Header(codec=codec, bitstream=version, parameters=header.as_json()))
    sink.write_chunk(MODEL, write_model(model, header))
    writer = BlockWriter(sink, header, model, context)
    writer.write(source, first_row=0)
    if writer.saturated:
        context.warning(
            f"{writer.saturated:,} values are beyond the largest {header.dtype} and were set to it; "
            "the sample held no such values: raise sample=, or use a wider dtype"
        )
        figures["saturated_values"] = writer.saturated
    return {"rows": writer.rows, **figures}


@dataclass(slots=True)
class _Encoded:
    rows: int
    payload: bytes
    saturated: int


class BlockWriter:
    """Writes the rows of a source as blocks, on all threads."""

    def __init__(self, sink: ContainerWriter, header: FileHeader, model: FileModel, context: RunContext) -> None:
        self._sink = sink
        self._header = header
        self._model = model
        self._quantiser = Quantiser(header, model)
        self._context = context
        self.rows = 0
        self.saturated = 0

    def write(self, source: VectorSource, *, first_row: int) -> None:
        """Append every row of ``source``; ``first_row`` is the number of rows that the file has already."""
        threads = thread_count(self._context.threads)
        start = first_row
        row_bytes = 4 * self._header.dimensions
        for block in in_order(self._encode, source.batches(self._header.block_rows), threads):
            stop = start + block.rows
            if stop > MAX_ROWS:
                raise LimitExceeded(f"a file holds at most {MAX_ROWS:,} vectors")
            self._sink.write_chunk(ROWS, block.payload, span=(start, stop), decoded_size=block.rows * row_bytes)
            start = stop
            self.rows += block.rows
            self.saturated += block.saturated
            self._context.report("encode", self.rows, source.rows, unit="vectors")

    def _encode(self, rows: Floats) -> _Encoded:
        values, norms = self._quantiser.stored_values(rows)
        codes, saturated = self._quantiser.codes(values)
        return _Encoded(len(rows), encode_block(Block(codes, norms), self._header, self._model), saturated)


def _fit(
    sample: Floats, source: VectorSource, params: VectorsParameters, seed: int
) -> tuple[FileHeader, FileModel, dict[str, Figure]]:
    """Fit stage after stage to the sample as the stages before leave it."""
    figures: dict[str, Figure] = {}
    header = FileHeader(
        dimensions=source.dimensions,
        stored=source.dimensions,
        projection="none",
        wide=params.dtype in ("float32", "float16"),
        dtype=params.dtype,
        bits=UNIFORM_BITS[params.dtype] + params.rescoring_bits
        if params.dtype in UNIFORM_BITS
        else FLOATS[params.dtype].bits,
        exponent=0,
        norms=params.norms == "apart",
        tables=0,
        block_rows=_block_rows(params.block_rows, source.dimensions),
        element=source.element,
        rows=source.rows,
    )
    model = FileModel()
    rows, _ = Quantiser(header, model).stored_values(sample)
    kind, projection = _projection(rows, params, seed)
    if projection is not None:
        if not header.wide:
            rounded = projection.components.astype(np.float16).astype(np.float32)
            projection = Projection(projection.mean, rounded)
        header = replace(header, projection=kind, stored=projection.stored)
        model = FileModel(projection=projection)
    values, _ = Quantiser(header, model).stored_values(sample)
    if projection is not None and len(rows):
        total = float(np.square(rows - projection.mean, dtype=np.float64).sum())
        figures["explained_variance"] = (
            round(float(np.square(values, dtype=np.float64).sum()) / total, 5) if total else 1.0
        )
    if header.uniform:
        offset, step = uniform_levels(values, header.bits, params.calibration)
        model = replace(model, offset=offset, step=step)
    elif header.bits == 8:
        header = replace(header, exponent=float_exponent(values, header.dtype, params.scale))
    if params.entropy == "auto" and len(values) and header.bits > 1:
        codes, _ = Quantiser(header, model).codes(values[:: -(-len(values) // _TABLE_ROWS)])
        counts = count_symbols(lanes_of(codes, header)[0], 1 << min(header.bits, 8))
        tables, numbers = fit_tables(counts, params.tables, table_bits(header))
        header = replace(header, tables=len(tables))
        model = replace(model, tables=tables, table_numbers=numbers)
    return header, model, figures


def _projection(rows: Floats, params: VectorsParameters, seed: int) -> tuple[str, Projection | None]:
    wanted = parse_pca(params.pca)
    if wanted is not None:
        return "pca", fit_pca(rows, wanted)
    if params.random_projection is not None:
        return "random", random_projection(rows, params.random_projection, seed)
    if params.projection != "none":
        return "given", load_projection(params.projection, rows.shape[1])
    return "none", None


def _block_rows(wanted: int | None, dimensions: int) -> int:
    """Rows of a block: a power of two with about a million values, unless the user says otherwise."""
    if wanted is None:
        return max(8, 1 << (_BLOCK_VALUES // dimensions).bit_length() - 1) if dimensions < _BLOCK_VALUES // 8 else 8
    if wanted * dimensions > MAX_BLOCK_VALUES:
        raise LimitExceeded(f"blocks of {wanted} vectors of {dimensions} dimensions are too large")
    return wanted
