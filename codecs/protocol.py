"""What a codec is: an id, parameters that are data, and encode, decode and open on containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ..formats.errors import InvalidParameter

if TYPE_CHECKING:
    from ..formats.canonical_json import JsonValue
    from ..formats.header import Header
    from ..formats.reader import ContainerReader
    from ..formats.writer import ContainerWriter
    from .run_context import RunContext

__all__ = ["Codec", "DecodeReport", "EncodeReport", "Figure", "Selection"]

Figure = int | float | str | None
P = TypeVar("P", contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which part of a file to decode, and how.

    ``ranges`` maps an axis the codec names (``frames``, ``layers``, ``tokens``, ``range`` in bytes, ``rows``) to a
    half-open pair ``(start, stop)``; ``stop`` None means the end. ``settings`` are decode options (``level=2``).
    """

    ranges: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    def range_of(self, axis: str, length: int) -> tuple[int, int]:
        """The checked range of ``axis`` whose full length is ``length``; the whole axis when not selected."""
        start, stop = self.ranges.get(axis, (0, None))
        end = length if stop is None else stop
        if not 0 <= start < end <= length:
            raise InvalidParameter(f"--{axis} {start}:{'' if stop is None else stop} is not within 0:{length}")
        return start, end


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeReport:
    """What an encode did. ``figures`` holds rate and quality by their field names (``bpp``, ``psnr_db``)."""

    codec: str
    bitstream_version: int
    input_bytes: int
    output_bytes: int
    seconds: float
    device: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeReport:
    """What a decode did; ``output_bytes`` is the size of what was written, in the output's own format."""

    codec: str
    bitstream_version: int
    input_bytes: int
    output_bytes: int
    seconds: float
    device: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


class Codec(Protocol[P]):
    """A codec. Classes are stateless; instances are cheap.

    ``id`` is written into files and never reused. ``bitstream_version`` is raised whenever old readers could not read
    the new bytes. ``kind`` names how inputs and outputs are opened (``video``, ``bytes``, ``image``, ``tensors``).
    ``Params`` is a frozen, slotted, keyword-only dataclass, validated in ``__post_init__``, whose fields are the keys
    of ``--set``; ``presets`` maps names to field values and has the entry ``default_preset``.
    ``chunk_types`` are the critical chunk types its files may hold; ``axes`` what a selection may name.
    Optional: ``checks``, a frozenset that holds ``profile`` or ``weights`` where the codec itself compares that field
    of the header with what it has; a file that needs one the codec does not check is refused for it; and
    ``encode_together(sources, sinks, params, *, context)``, which encodes many inputs in the bytes each would have
    alone and returns, for each, its figures or the :class:`CodecError` that stopped it.
    Importing the class must not import torch, numba or PyAV, so that listing and describing files stays instant.
    """

    id: ClassVar[str]
    kind: ClassVar[str]
    summary: ClassVar[str]
    lossless: ClassVar[bool]
    bitstream_version: ClassVar[int]
    Params: ClassVar[type]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    default_preset: ClassVar[str]
    chunk_types: ClassVar[frozenset[str]]
    axes: ClassVar[frozenset[str]]

    def encode(self, source: Any, sink: ContainerWriter, params: P, *, context: RunContext) -> Mapping[str, Figure]:
        """Write header and chunks of ``source`` to ``sink`` (its caller finishes it); return quality figures.

        Figures that depend on the size of the finished file are named by :meth:`rate_figures`.
        """
        ...

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Rates from the bytes of the whole file, such as ``{"bpp": ...}``."""
        ...

    def decode(
        self,
        source: ContainerReader,
        sink: Any,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Write what the file holds to ``sink``; return figures worth reporting.

        Without a selection, read the file through ``source.chunks()`` so that it is verified on the way.
        """
        ...

    def open(self, source: ContainerReader, *, context: RunContext) -> Any:
        """A view with random access, documented per codec (``frames``, ``text``, ``layers``)."""
        ...

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """What a person wants to know about a file (frames, fps, duration), from its header alone."""
        ...
