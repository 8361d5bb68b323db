"""A cache in chunks, each at several levels: the manifest that says which objects hold what.

The manifest is canonical JSON (integers, strings, sorted keys), documented in ``docs/kv-serving.md``. Every object is
named with its size and SHA-256, so that nothing but what the writer stored is ever decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...formats.canonical_json import dump, load
from ...formats.errors import CorruptFile, UnsupportedInput, UnsupportedVersion
from ...formats.object_store import check_name
from ...formats.tensors import Tensor
from .cache import Cache, CacheTable
from .controller import TEXT, ChunkOffer, LevelOffer

if TYPE_CHECKING:
    from ...formats.canonical_json import JsonObject
    from ...formats.limits import Limits

__all__ = ["ChunkEntry", "LevelSet", "ObjectEntry", "chunk_table", "token_slice"]

_FORMAT = "codeckit-kv-levels"
_VERSION = 1
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_LEVELS = 32
TOKEN_ID_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """One object: its name beside the manifest, its size and the SHA-256 of its bytes in hex."""

    name: str
    size_bytes: int
    sha256: str

    def as_json(self) -> JsonObject:
        return {"bytes": self.size_bytes, "name": self.name, "sha256": self.sha256}

    @classmethod
    def from_json(cls, value: Any) -> ObjectEntry:
        if not isinstance(value, dict) or set(value) != {"bytes", "name", "sha256"}:
            raise CorruptFile("manifest: an object is not {bytes, name, sha256}")
        size, name, sha256 = value["bytes"], value["name"], value["sha256"]
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise CorruptFile(f"manifest: an object of {size!r} bytes")
        if not isinstance(name, str) or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise CorruptFile("manifest: an object's name or SHA-256 is malformed")
        return cls(name=check_name(name), size_bytes=size, sha256=sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkEntry:
    """Tokens ``start`` to ``stop``: one cache file per level, and the token ids (uint32, little-endian) if stored."""

    start: int
    stop: int
    levels: tuple[ObjectEntry, ...]
    text: ObjectEntry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSet:
    """The manifest. ``labels`` name the levels from the best to the smallest."""

    table: CacheTable
    labels: tuple[str, ...]
    chunks: tuple[ChunkEntry, ...]

    def to_bytes(self) -> bytes:
        """The manifest as canonical JSON."""
        chunks: list[Any] = [
            {
                "levels": [entry.as_json() for entry in chunk.levels],
                "text": None if chunk.text is None else chunk.text.as_json(),
                "tokens": [chunk.start, chunk.stop],
            }
            for chunk in self.chunks
        ]
        return dump(
            {
                "cache": self.table.as_json(),
                "chunks": chunks,
                "format": _FORMAT,
                "labels": list(self.labels),
                "version": _VERSION,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, limits: Limits) -> LevelSet:
        """Read a manifest; raises :class:`CorruptFile`, :class:`UnsupportedVersion` or :class:`LimitExceeded`."""
        value = load(data)
        if value.get("format") != _FORMAT:
            raise CorruptFile(f"manifest: the format is {value.get('format')!r}, expected {_FORMAT!r}")
        if value.get("version") != _VERSION:
            raise UnsupportedVersion(f"manifest version {value.get('version')!r}; this reader knows {_VERSION}")
        if set(value) != {"cache", "chunks", "format", "labels", "version"}:
            raise CorruptFile("manifest: fields are missing or unknown")
        table = CacheTable.from_json(value["cache"])
        labels = value["labels"]
        if not isinstance(labels, list) or not 1 <= len(labels) <= _MAX_LEVELS:
            raise CorruptFile(f"manifest: labels must be 1 to {_MAX_LEVELS} names")
        names = tuple(str(label) for label in labels)
        if len(set(names)) != len(names) or not all(_LABEL.fullmatch(n) and n != TEXT for n in names):
            raise CorruptFile("manifest: the labels are not different plain names")
        if not isinstance(value["chunks"], list):
            raise CorruptFile("manifest: chunks must be a list")
        chunks = tuple(_chunk(item, len(names), limits) for item in value["chunks"])
        _check_cover(chunks, table)
        return cls(table=table, labels=names, chunks=chunks)

    def offers(self) -> list[ChunkOffer]:
        """What a :class:`Controller` may choose from."""
        return [
            ChunkOffer(
                tokens=chunk.stop - chunk.start,
                levels=tuple(
                    LevelOffer(
                        label=label,
                        size_bytes=entry.size_bytes,
                        decoded_bytes=chunk_table(self.table, chunk.start, chunk.stop).size_bytes,
                    )
                    for label, entry in zip(self.labels, chunk.levels, strict=True)
                ),
                text_bytes=None if chunk.text is None else chunk.text.size_bytes,
            )
            for chunk in self.chunks
        ]


def chunk_table(table: CacheTable, start: int, stop: int) -> CacheTable:
    """The table of tokens ``start`` to ``stop`` as a cache of its own."""
    return replace(table, tokens=stop - start, first_position=table.first_position + start)


def token_slice(cache: Cache, start: int, stop: int) -> Cache:
    """Tokens ``start`` to ``stop`` as a cache of its own, sharing the arrays.

    Raises :class:`UnsupportedInput` where a sliding window has dropped tokens.
    """
    if any(layer.first_token for layer in cache.table.layers):
        raise UnsupportedInput("a cache whose layers keep different tokens cannot be cut into chunks; encode it whole")
    parts: dict[tuple[int, str], Tensor] = {
        (number, part.role): Tensor(dtype=tensor.dtype, data=tensor.data[:, start:stop])
        for number, part, tensor in cache.each()
    }
    mass = cache.attention_mass
    return replace(
        cache,
        table=chunk_table(cache.table, start, stop),
        parts=parts,
        attention_mass=None if mass is None else tuple(row[:, start:stop] for row in mass),
    )


def _chunk(value: Any, levels: int, limits: Limits) -> ChunkEntry:
    if not isinstance(value, dict) or set(value) != {"levels", "text", "tokens"}:
        raise CorruptFile("manifest: a chunk is not {levels, text, tokens}")
    tokens, found = value["tokens"], value["levels"]
    if not isinstance(tokens, list) or len(tokens) != 2 or not all(type(item) is int for item in tokens):
        raise CorruptFile(f"manifest: the tokens of a chunk are {tokens!r}, not [start, stop]")
    if not isinstance(found, list) or len(found) != levels:
        raise CorruptFile(f"manifest: a chunk has not one object for each of {levels} labels")
    text = None if value["text"] is None else ObjectEntry.from_json(value["text"])
    chunk = ChunkEntry(
        start=tokens[0], stop=tokens[1], levels=tuple(ObjectEntry.from_json(item) for item in found), text=text
    )
    for entry in chunk.levels:
        limits.check("max_chunk_bytes", entry.size_bytes, f"object {entry.name}")
    if text is not None and text.size_bytes != TOKEN_ID_BYTES * (chunk.stop - chunk.start):
        raise CorruptFile(f"manifest: {text.name} holds not {TOKEN_ID_BYTES} bytes for each token of its chunk")
    return chunk


def _check_cover(chunks: tuple[ChunkEntry, ...], table: CacheTable) -> None:
    if any(layer.first_token for layer in table.layers):
        raise CorruptFile("manifest: the cache has a sliding window")
    position = 0
    for chunk in chunks:
        if chunk.start != position or chunk.stop <= chunk.start:
            raise CorruptFile(f"manifest: tokens {chunk.start} to {chunk.stop} where token {position} should come next")
        position = chunk.stop
    if position != table.tokens:
        raise CorruptFile(f"manifest: the chunks hold {position} tokens, the cache {table.tokens}")
