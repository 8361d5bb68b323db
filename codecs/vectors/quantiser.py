"""From rows to codes and back: lengths, projection, levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels
from .element_types import FLOATS, float_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .file_header import FileHeader
    from .model import FileModel

    Floats = NDArray[np.float32]

__all__ = ["Quantiser", "code_dtype", "project_rows"]


def code_dtype(header: FileHeader) -> Any:
    """The unsigned NumPy type that holds one code in memory."""
    return {32: np.uint32, 16: np.uint16}.get(header.bits, np.uint8)


def project_rows(values: Floats, centre: Floats, matrix: Floats, offset: Floats, out: Floats | None = None) -> Floats:
    """``offset + (values - centre) @ matrix``, the same bits for a row in whatever batch it comes."""
    result = np.empty((len(values), matrix.shape[1]), np.float32) if out is None else out
    kernels.project(values, centre, matrix, offset, result)
    return result


class Quantiser:
    """Both directions for the blocks of one file; safe to share between threads."""

    def __init__(self, header: FileHeader, model: FileModel) -> None:
        self._header = header
        self._model = model
        self._inverse = None if model.step is None else (np.float32(1) / model.step).astype(np.float32)
        if model.projection is not None:
            self._analysis = np.ascontiguousarray(model.projection.components.T)  # [D, stored]
            self._no_offset = np.zeros(header.stored, np.float32)

    def stored_values(self, rows: Floats) -> tuple[Floats, Floats | None]:
        """What is rounded, [n, stored], and the lengths of the rows, [n], where the file keeps them apart."""
        norms = None
        if self._header.norms:
            norms = np.empty(len(rows), np.float32)
            kernels.row_norms(rows, norms)
            # a zero vector stays zero, and so does one too short to be divided by
            factors = np.divide(1, norms, out=np.zeros_like(norms), where=norms > np.finfo(np.float32).tiny)
            norms[factors == 0] = 0
            directions = np.empty_like(rows)
            kernels.scale_rows(rows, factors, directions)
            rows = directions
        projection = self._model.projection
        if projection is not None:
            rows = project_rows(rows, projection.mean, self._analysis, self._no_offset)
        return rows, norms

    def codes(self, values: Floats) -> tuple[NDArray[Any], int]:
        """Codes [n, stored] of :meth:`stored_values`, and how many lay beyond the largest number of the format."""
        header, model = self._header, self._model
        codes = np.empty(values.shape, code_dtype(header))
        if header.uniform:
            kernels.round_to_uniform(values, model.offset, self._inverse, (1 << header.bits) - 1, codes)
            return codes, 0
        bits = values.view(np.uint32)
        if header.dtype == "float32":
            return bits, 0
        kind = FLOATS[header.dtype]
        saturated = kernels.round_to_float(
            bits.reshape(-1), codes.reshape(-1), kind.mantissa, kind.lowest, header.exponent, kind.largest
        )
        return codes, int(saturated)

    def values(self, codes: NDArray[Any], norms: Floats | None, out: Floats) -> None:
        """Decode ``codes`` [n, stored] into ``out``, float32 [n, dimensions]."""
        header, model = self._header, self._model
        stored = out if model.projection is None else np.empty(codes.shape, np.float32)
        if header.uniform:
            kernels.uniform_values(codes, model.offset, model.step, stored)
        elif header.dtype == "float32":
            stored[:] = codes.view(np.float32)
        else:
            table = float_values(header.dtype, header.exponent)
            kernels.look_up(codes.reshape(-1), table, stored.reshape(-1))
        if model.projection is not None:
            project_rows(stored, self._no_offset, model.projection.components, model.projection.mean, out)
        if norms is not None:
            kernels.scale_rows(out, norms, out)
