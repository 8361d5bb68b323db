"""What the block coder notes down between predicting a bit and learning from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .model_state import Shape, first_rows
from .recall import MEMORY_ORDERS

__all__ = ["Workspace", "allocate_workspace"]

# fill_contexts writes every context of a level, fewer than this.
_MOST_CONTEXTS = 32
_MOST_MATCHES = 4
_MOST_SETS = 8
_NIBBLE_NODES = 16


class Workspace(NamedTuple):
    """Scratch arrays of one block, all int64 but ``inputs``.

    For each context its ``hashes`` of this byte, ``line_hash`` and ``line`` of this nibble, ``node_at`` and ``cell_at``
    of this bit, and the ``root`` line with the ``run_byte`` expected there. For each match model ``match_at``,
    ``match_length``, ``match_byte`` and ``match_cell``; for each order of the memory ``memory_hash``, ``memory_at``,
    ``memory_level`` (16 nodes each) and ``memory_cell``. ``inputs`` (int32) of the mixers, ``first_row`` of each weight
    set, where its chosen row begins (``rows``), and what it says (``votes``). ``coder`` is the range coder's: see
    :mod:`.bit_coder`.
    """

    hashes: NDArray[np.int64]
    line_hash: NDArray[np.int64]
    line: NDArray[np.int64]
    root: NDArray[np.int64]
    node_at: NDArray[np.int64]
    cell_at: NDArray[np.int64]
    run_byte: NDArray[np.int64]
    run_cell: NDArray[np.int64]
    inputs: NDArray[np.int32]
    match_at: NDArray[np.int64]
    match_length: NDArray[np.int64]
    match_byte: NDArray[np.int64]
    match_cell: NDArray[np.int64]
    memory_hash: NDArray[np.int64]
    memory_at: NDArray[np.int64]
    memory_level: NDArray[np.int64]
    memory_cell: NDArray[np.int64]
    first_row: NDArray[np.int64]
    rows: NDArray[np.int64]
    votes: NDArray[np.int64]
    coder: NDArray[np.int64]


def allocate_workspace(shape: Shape) -> Workspace:
    """Scratch arrays for one block of a model of ``shape``."""

    def zeros(count: int) -> NDArray[np.int64]:
        return np.zeros(count, np.int64)

    first_row = zeros(_MOST_SETS)
    first_row[: shape.sets] = first_rows(shape.level)
    return Workspace(
        hashes=zeros(_MOST_CONTEXTS),
        line_hash=zeros(shape.contexts),
        line=zeros(shape.contexts),
        root=zeros(shape.contexts),
        node_at=zeros(shape.contexts),
        cell_at=zeros(shape.contexts),
        run_byte=zeros(shape.contexts),
        run_cell=zeros(shape.contexts),
        inputs=np.zeros(shape.inputs, np.int32),
        match_at=zeros(_MOST_MATCHES),
        match_length=zeros(_MOST_MATCHES),
        match_byte=zeros(_MOST_MATCHES),
        match_cell=zeros(_MOST_MATCHES),
        memory_hash=zeros(MEMORY_ORDERS),
        memory_at=zeros(MEMORY_ORDERS),
        memory_level=zeros(MEMORY_ORDERS * _NIBBLE_NODES),
        memory_cell=zeros(MEMORY_ORDERS),
        first_row=first_row,
        rows=zeros(_MOST_SETS),
        votes=zeros(_MOST_SETS),
        coder=zeros(4),
    )
