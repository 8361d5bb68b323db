"""What a file is and whether it is sound, without decoding it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .codecs.protocol import Figure
from .codecs.registry import find_codec
from .formats.canonical_json import JsonObject, JsonValue
from .formats.chunk import IndexEntry
from .formats.errors import ExternalFailure, UnknownCodec
from .formats.limits import DEFAULT_LIMITS, Limits
from .formats.reader import ContainerReader, ContainerSource

__all__ = ["ChunkSummary", "FileInfo", "info", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSummary:
    """All chunks of one type together."""

    type: str
    count: int
    payload_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What :func:`info` finds: the header, what the codec makes of it, and the chunks.

    ``problem`` says why ``description`` and ``rates`` are empty when the codec is not installed here.
    """

    codec: str
    bitstream_version: int
    size_bytes: int | None
    profile: str | None
    weights: tuple[str, ...]
    parameters: JsonObject
    description: Mapping[str, JsonValue]
    rates: Mapping[str, Figure]
    chunks: tuple[ChunkSummary, ...]
    problem: str | None


def info(source: ContainerSource, *, limits: Limits = DEFAULT_LIMITS) -> FileInfo:
    """Describe a file from its header and index; reads no payload and imports no network.

    Raises :class:`CorruptFile` and its kinds, :class:`InvalidParameter`.
    """
    with ContainerReader(source, limits=limits) as reader:
        header = reader.header
        entries = reader.index()
        description: Mapping[str, JsonValue] = {}
        rates: Mapping[str, Figure] = {}
        problem = None
        try:
            codec = find_codec(header.codec)
        except (UnknownCodec, ExternalFailure) as error:
            problem = str(error)
        else:
            reader.require_bitstream(newest=codec.bitstream_version)
            description = codec.describe(header)
            rates = codec.rate_figures(header, reader.size_bytes or 0)
        return FileInfo(
            codec=header.codec,
            bitstream_version=header.bitstream,
            size_bytes=reader.size_bytes,
            profile=header.profile,
            weights=header.weights,
            parameters=header.parameters,
            description=description,
            rates=rates,
            chunks=_summarise(entries),
            problem=problem,
        )


def verify(source: ContainerSource, *, limits: Limits = DEFAULT_LIMITS) -> int:
    """Check every byte of a file against its checksums; return its number of chunks.

    Raises :class:`CorruptFile` and its kinds when anything is wrong.
    """
    with ContainerReader(source, limits=limits) as reader:
        return sum(1 for _ in reader.chunks())


def _summarise(entries: list[IndexEntry]) -> tuple[ChunkSummary, ...]:
    totals: dict[str, tuple[int, int]] = {}
    for entry in entries:
        count, size = totals.get(entry.type, (0, 0))
        totals[entry.type] = count + 1, size + entry.length
    return tuple(ChunkSummary(type=kind, count=count, payload_bytes=size) for kind, (count, size) in totals.items())
