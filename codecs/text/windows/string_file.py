"""Dictionaries on disk: sorted strings, each as what it shares with the one before and its rest, in one xz stream."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ....formats.errors import CorruptFile
from ....formats.varint import append_varint, read_varint
from .shipped_files import read_file
from .string_trie import StringTrie, build_trie
from .strings import StringTable, string_table

__all__ = ["Dictionary", "dictionary_bytes", "load_dictionary", "parse_dictionary"]

_MAGIC = b"codeckit strings 1\n"
_MOST_STRINGS = 65535
_MOST_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Dictionary:
    """Strings by token id with their trie. Id 0 is empty and stands for no string.

    ``sha256`` is the digest of the file; ``source`` that of the model the strings follow from, "" for none.
    """

    table: StringTable
    trie: StringTrie
    sha256: str
    source: str


def dictionary_bytes(strings: Sequence[bytes], source: str = "") -> bytes:
    """A dictionary file of ``strings``, which become ids 1, 2, ... in sorted order.

    Raises ``ValueError`` unless they are distinct, not empty, at most 65,535 and contain every single byte.
    """
    ordered = sorted(set(strings))
    if len(ordered) != len(strings) or not 256 <= len(ordered) <= _MOST_STRINGS or b"" in ordered[:1]:
        raise ValueError(f"a dictionary holds 256 to {_MOST_STRINGS:,} distinct strings")
    if sum(len(string) == 1 for string in ordered) != 256:
        raise ValueError("a dictionary contains every single byte")
    shared, lengths, rests = bytearray(), bytearray(), bytearray()
    previous = b""
    for string in ordered:
        common = 0
        while common < min(len(previous), len(string)) and previous[common] == string[common]:
            common += 1
        append_varint(shared, common)
        append_varint(lengths, len(string) - common)
        rests += string[common:]
        previous = string
    head = bytearray(_MAGIC)
    for part in (source.encode(), shared, lengths, rests):
        append_varint(head, len(part))
    append_varint(head, len(ordered))
    return lzma.compress(
        bytes(head) + source.encode() + shared + lengths + rests, check=lzma.CHECK_CRC64, preset=9 | lzma.PRESET_EXTREME
    )


@lru_cache(maxsize=4)
def load_dictionary(path: Path) -> Dictionary:
    """Read a dictionary file; the same path is read once per process.

    Raises :class:`ExternalFailure` (missing) and :class:`CorruptFile` (not a dictionary).
    """
    content, sha256 = read_file(path)
    return parse_dictionary(content, sha256, str(path))


def parse_dictionary(content: bytes, sha256: str, name: str) -> Dictionary:
    """The dictionary in the bytes of a file called ``name``; raises :class:`CorruptFile` for anything else."""
    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 << 20)
        data = decompressor.decompress(content, _MOST_BYTES)
    except lzma.LZMAError as error:
        raise CorruptFile(f"{name}: not a dictionary ({error})") from error
    if not decompressor.eof or decompressor.unused_data or not data.startswith(_MAGIC):
        raise CorruptFile(f"{name}: not a dictionary of this version")
    strings, source = _strings(data, name)
    table = string_table([b"", *strings])
    try:
        trie = build_trie(table)
    except ValueError as error:
        raise CorruptFile(f"{name}: {error}") from error
    return Dictionary(table, trie, sha256, source)


def _strings(data: bytes, name: str) -> tuple[list[bytes], str]:
    position = len(_MAGIC)
    sizes = []
    for what in ("source", "shared lengths", "lengths", "bytes"):
        size, position = read_varint(data, position, f"{name}: size of the {what}")
        sizes.append(size)
    count, position = read_varint(data, position, f"{name}: number of strings")
    if position + sum(sizes) != len(data) or count > _MOST_STRINGS:
        raise CorruptFile(f"{name}: its parts do not add up")
    source_end = position + sizes[0]
    shared_at, length_at, rest_at = source_end, source_end + sizes[1], source_end + sizes[1] + sizes[2]
    strings: list[bytes] = []
    previous = b""
    for number in range(count):
        where = f"{name}: string {number + 1}"
        common, shared_at = read_varint(data, shared_at, where)
        length, length_at = read_varint(data, length_at, where)
        string = previous[:common] + data[rest_at : rest_at + length]
        rest_at += length
        if common > len(previous) or rest_at > len(data) or not previous < string or len(string) > 65535:
            raise CorruptFile(f"{where} does not follow the one before it")
        strings.append(string)
        previous = string
    if rest_at != len(data) or length_at != source_end + sizes[1] + sizes[2] or shared_at != source_end + sizes[1]:
        raise CorruptFile(f"{name}: its parts do not add up")
    return strings, data[source_end - sizes[0] : source_end].decode("ascii", "replace")
