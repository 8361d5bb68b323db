"""What the header of a ``vectors`` file says, checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile
from .element_types import FLOATS, UNIFORM_BITS

if TYPE_CHECKING:
    from ...formats.canonical_json import JsonObject
    from ...formats.header import Header

__all__ = ["MAX_BLOCK_ROWS", "MAX_DIMENSIONS", "MAX_TABLES", "PROJECTIONS", "FileHeader"]

MAX_DIMENSIONS = 1 << 16
MAX_BLOCK_ROWS = 1 << 20
MAX_BLOCK_VALUES = 1 << 28
MAX_TABLES = 64
MAX_ROWS = 1 << 40
MAX_EXPONENT = 140
PROJECTIONS = ("none", "pca", "random", "given")
_ELEMENTS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHeader:
    """Shapes and formats of a file.

    Attributes:
        dimensions: D of the vectors that went in and come out.
        stored: dimensions after the projection; equal to ``dimensions`` without one.
        projection: ``none``, ``pca``, ``random`` or ``given``.
        wide: whether the projection is held in float32 rather than float16.
        dtype: the number format of the codes; ``bits`` of each.
        exponent: float values were multiplied by ``2**exponent`` before they were rounded.
        norms: whether rows were divided by their lengths, which are kept.
        tables: how many frequency tables the file has for its blocks.
        block_rows: the most rows of a block.
        element: the input's type, ``F32``, ``F16`` or ``BF16``.
        rows: how many vectors there are, None where the input was a stream.
    """

    dimensions: int
    stored: int
    projection: str
    wide: bool
    dtype: str
    bits: int
    exponent: int
    norms: bool
    tables: int
    block_rows: int
    element: str
    rows: int | None

    def as_json(self) -> JsonObject:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_header(cls, header: Header) -> FileHeader:
        """Read the parameters of ``header``; raises :class:`CorruptFile`."""
        found = header.parameters
        names = set(cls.__slots__)
        if set(found) != names:
            raise CorruptFile(f"header: a vectors file has the parameters {', '.join(sorted(names))}")

        def whole(name: str, least: int, most: int) -> int:
            value = found[name]
            if type(value) is not int or not least <= value <= most:
                raise CorruptFile(f"header: {name} {value!r} is not within {least} to {most}")
            return value

        def choice(name: str, choices: tuple[str, ...]) -> str:
            value = found[name]
            if not isinstance(value, str) or value not in choices:
                raise CorruptFile(f"header: {name} {value!r} is not one of {', '.join(choices)}")
            return value

        def flag(name: str) -> bool:
            value = found[name]
            if not isinstance(value, bool):
                raise CorruptFile(f"header: {name} {value!r} is not true or false")
            return value

        result = cls(
            dimensions=whole("dimensions", 1, MAX_DIMENSIONS),
            stored=whole("stored", 1, MAX_DIMENSIONS),
            projection=choice("projection", PROJECTIONS),
            wide=flag("wide"),
            dtype=choice("dtype", (*FLOATS, *UNIFORM_BITS)),
            bits=whole("bits", 1, 32),
            exponent=whole("exponent", -MAX_EXPONENT, MAX_EXPONENT),
            norms=flag("norms"),
            tables=whole("tables", 0, MAX_TABLES),
            block_rows=whole("block_rows", 1, MAX_BLOCK_ROWS),
            element=choice("element", _ELEMENTS),
            rows=None if found["rows"] is None else whole("rows", 0, MAX_ROWS),
        )
        problem = result._problem()
        if problem is not None:
            raise CorruptFile(f"header: {problem}")
        return result

    @property
    def uniform(self) -> bool:
        """Whether the levels of a dimension are equally spaced, rather than those of a floating-point format."""
        return self.dtype in UNIFORM_BITS

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's codes without entropy coding."""
        return (self.stored * self.bits + 7) // 8

    def _problem(self) -> str | None:
        if self.stored > self.dimensions or (self.projection == "none" and self.stored != self.dimensions):
            return f"{self.stored} stored dimensions of {self.dimensions} with the projection {self.projection!r}"
        if self.block_rows * self.dimensions > MAX_BLOCK_VALUES:
            return f"blocks of {self.block_rows} rows of {self.dimensions} dimensions are too large"
        if self.dtype == "binary":
            return None if self.bits <= 8 else f"{self.bits} bits for the dtype binary"
        expected = UNIFORM_BITS.get(self.dtype) or FLOATS[self.dtype].bits
        if self.bits != expected:
            return f"{self.bits} bits for the dtype {self.dtype}"
        if self.exponent and self.dtype not in ("float8_e4m3", "float8_e5m2"):
            return f"a scale for the dtype {self.dtype}"
        return None
