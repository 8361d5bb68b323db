"""A layer as bytes: the symbols of all its pieces as lanes, then of each part the exact tokens and other integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ....entropy.bit_io import append_varint, read_varint
from ....entropy.frequency_table import FrequencyTable
from ....entropy.lanes import decode_lane_list, encode_lanes
from ....formats.errors import CorruptFile
from ....formats.safetensors_file import DTYPES, Tensor
from ..exact_planes import decode_part, encode_part
from ..number_formats import from_float32, to_float32
from .mikv import balance_factors
from .piece_fields import append_pieces, read_pieces
from .pieces import fit_piece, piece_values
from .token_layout import piece_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..cache import PartTable
    from .pieces import PieceShape
    from .plan import StagesParams
    from .token_layout import HeadLayout

    Floats = NDArray[np.float32]

__all__ = ["decode_layer", "encode_layer"]

_LANE_SYMBOLS = 1 << 16
_TABLE_BITS = 12
_MAX_TABLES = 1 << 10


def encode_layer(
    plan: StagesParams,
    parts: Sequence[PartTable],
    values: Sequence[Sequence[Floats]],
    layouts: Sequence[HeadLayout],
    balance: NDArray[np.int64] | None,
) -> bytes:
    """The tokens of a layer; ``values`` holds for each part and head an array [tokens, width].

    ``balance`` [heads, width] are MiKV's balancers of keys in quarter octaves.
    """
    out = bytearray()
    symbols: list[NDArray[np.uint8]] = []
    for part, heads in zip(parts, values, strict=True):
        for run in _exact_runs(layouts):
            exact = [heads[head][layouts[head].exact] for head in run]
            # [heads, tokens, width] -> [channels, tokens]
            stored = from_float32(np.stack(exact).swapaxes(1, 2), part.dtype).data
            bits = np.ascontiguousarray(stored).view(np.uint32 if part.dtype == "F32" else np.uint16)
            out += encode_part(bits.reshape(-1, bits.shape[-1]), part.dtype)
        factors = _factors(part, balance)
        pieces = [
            fit_piece(head[chosen] * factor, piece_shape(plan, part, bits, chosen.size))
            for head, factor, layout in zip(heads, factors, layouts, strict=True)
            for bits, chosen in layout.pieces
        ]
        append_pieces(out, pieces)
        symbols += [piece.code.symbols for piece in pieces]
    block = _encode_symbols(symbols)
    head = bytearray()
    append_varint(head, len(block))
    return bytes(head) + block + bytes(out)


def decode_layer(
    data: bytes,
    position: int,
    plan: StagesParams,
    parts: Sequence[PartTable],
    layouts: Sequence[HeadLayout],
    balance: NDArray[np.int64] | None,
    what: str,
    threads: int,
) -> list[list[Floats]]:
    """Invert :func:`encode_layer` at ``position`` of ``data``: for each part and head the values [tokens, width].

    Raises :class:`CorruptFile` naming ``what``.
    """
    shapes = [_piece_shapes(plan, part, layouts) for part in parts]
    symbols, position = _decode_symbols(data, position, [shape for row in shapes for shape in row], what, threads)
    first = 0
    result = []
    for part, own in zip(parts, shapes, strict=True):
        heads = [np.empty((layout.tokens, part.width), np.float32) for layout in layouts]
        for run in _exact_runs(layouts):
            count = layouts[run[0]].exact.size
            stored, position = decode_part(data, position, part.width * len(run), count, part.dtype, threads)
            floats = to_float32(Tensor(dtype=part.dtype, data=np.ascontiguousarray(stored).view(DTYPES[part.dtype])))
            for number, channels in zip(run, np.split(floats, len(run)), strict=True):
                heads[number][layouts[number].exact] = channels.T
        pieces, position = read_pieces(data, position, own, symbols[first : first + len(own)], f"{what} {part.role}")
        first += len(own)
        following = iter(pieces)
        for head, factor, layout in zip(heads, _factors(part, balance), layouts, strict=True):
            for _, chosen in layout.pieces:
                head[chosen] = piece_values(next(following)) / factor
        result.append(heads)
    if position != len(data):
        raise CorruptFile(f"{what}: {len(data) - position} bytes left over after its parts")
    return result


def _factors(part: PartTable, balance: NDArray[np.int64] | None) -> Floats:
    """What the values of each head are multiplied with before quantising, [heads, width]."""
    if balance is None or not part.rotated:
        return np.ones((part.heads, part.width), np.float32)
    return balance_factors(balance)


def _piece_shapes(plan: StagesParams, part: PartTable, layouts: Sequence[HeadLayout]) -> list[PieceShape]:
    return [piece_shape(plan, part, bits, chosen.size) for layout in layouts for bits, chosen in layout.pieces]


def _exact_runs(layouts: Sequence[HeadLayout]) -> list[list[int]]:
    """Heads whose exact tokens are coded as one array: all of them where they are equally many, else each alone."""
    counts = {layout.exact.size for layout in layouts}
    if counts == {0}:
        return []
    if len(counts) == 1:
        return [list(range(len(layouts)))]
    return [[head] for head, layout in enumerate(layouts) if layout.exact.size]


def _encode_symbols(pieces: Sequence[NDArray[np.uint8]]) -> bytes:
    """A lane block with a table for each piece, or for several where there are very many; empty for no pieces."""
    if not pieces:
        return b""
    count = min(len(pieces), _MAX_TABLES)
    shared = [number * count // len(pieces) for number in range(len(pieces))]
    totals = np.zeros((count, 1 << 8), np.int64)
    lanes: list[NDArray[np.uint8]] = []
    numbers: list[int] = []
    for table, piece in zip(shared, pieces, strict=True):
        flat = piece.ravel()
        totals[table] += np.bincount(flat, minlength=1 << 8)
        own = np.array_split(flat, -(-flat.size // _LANE_SYMBOLS))
        lanes += own
        numbers += [table] * len(own)
    tables = [FrequencyTable.from_counts(np.trim_zeros(row, "b"), bits=_TABLE_BITS) for row in totals]
    return encode_lanes(lanes, tables, classes=np.array(numbers))


def _decode_symbols(
    data: bytes, position: int, shapes: Sequence[PieceShape], what: str, threads: int
) -> tuple[list[NDArray[np.uint8]], int]:
    length, position = read_varint(data, position, what)
    if length > len(data) - position:
        raise CorruptFile(f"{what}: {length} bytes of lanes promised, {len(data) - position} are left")
    sizes = [shape.rows * shape.length for shape in shapes]
    if not sizes and not length:
        return [], position
    block = memoryview(data)[position : position + length]
    lanes = decode_lane_list(block, threads=threads, max_symbols=sum(sizes))
    flat = np.concatenate(lanes) if lanes else np.zeros(0, np.uint8)
    if flat.size != sum(sizes):
        raise CorruptFile(f"{what}: {flat.size} symbols, expected {sum(sizes)}")
    found = []
    for shape, own in zip(shapes, np.split(flat, np.cumsum(sizes)[:-1]), strict=True):
        if int(own.min()) < 0 or int(own.max()) >= 1 << shape.bits:
            raise CorruptFile(f"{what}: a symbol does not fit {shape.bits} bits")
        found.append(own.astype(np.uint8).reshape(shape.rows, shape.length))
    return found, position + length
