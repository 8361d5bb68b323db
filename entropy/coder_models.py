"""constriction's models whose probabilities are exactly the integers of a frequency table.

A table of frequencies ``P`` reaches constriction as the float64 weights ``P - 1`` with
``perfect=False``, which makes its internal scale exactly one: nothing is rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .frequency_table import PRECISION

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from .frequency_table import FrequencyTable

__all__ = ["coder_model", "row_family", "row_parts", "row_weights"]

_ROWS_AT_ONCE = 1 << 22  # float64 weights built per step: 32 MiB


def coder_model(table: FrequencyTable) -> Any:
    """The constriction model whose probabilities are exactly the table's frequencies."""
    from constriction import stream

    model = table.__dict__.get("_coder_model")
    if model is None:
        model = stream.model.Categorical(table.frequencies.astype(np.float64) - 1.0, perfect=False)
        table.__dict__["_coder_model"] = model
    return model


def row_family() -> Any:
    """The model of symbols that each come with their own row of weights."""
    from constriction import stream

    return stream.model.Categorical(perfect=False)


def row_weights(rows: NDArray[Any]) -> NDArray[np.float64]:
    """What :func:`row_family` takes for ``rows`` of frequencies [count, slots]: float64 of that shape."""
    scale = (1 << PRECISION) // int(rows[0].sum(dtype=np.int64))
    weights: NDArray[np.float64] = rows.astype(np.float64) * float(scale) - 1.0
    return weights


def row_parts(rows: NDArray[Any]) -> list[slice]:
    """Slices of ``rows`` [count, slots] whose weights fit in memory comfortably."""
    step = max(_ROWS_AT_ONCE // rows.shape[1], 1)
    return [slice(start, start + step) for start in range(0, len(rows), step)]
