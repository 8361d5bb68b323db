"""The file header: magic, versions, feature flags and the canonical JSON that names the codec."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .canonical_json import JsonObject, dump, load
from .checksums import checksum64
from .errors import (
    ChecksumMismatch,
    CorruptFile,
    InvalidParameter,
    TruncatedFile,
    UnsupportedVersion,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .limits import Limits

__all__ = ["FORMAT_VERSION", "MAGIC", "Header", "read_header"]

MAGIC = b"\x89CKT\r\n\x1a\n"
FORMAT_VERSION = 1
KNOWN_FEATURES = 0

_FIXED = struct.Struct("<8sBBHI")
_CHECKSUM = struct.Struct("<Q")
_CODEC_ID = re.compile(r"[a-z0-9][a-z0-9+._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REQUIRED = {"bitstream", "codec", "parameters"}
_OPTIONAL = {"profile", "weights"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says about itself before its first chunk.

    ``parameters`` holds what the decoder needs beside the chunks; ``profile`` names the exact-arithmetic recipe
    the symbols depend on, and ``weights`` the SHA-256 (hex) of model weights that are not inside the file.
    """

    codec: str
    bitstream: int
    parameters: JsonObject = field(default_factory=dict)
    profile: str | None = None
    weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problem = _problem(self.as_json())
        if problem is not None:
            raise InvalidParameter(f"header: {problem}")

    def as_json(self) -> JsonObject:
        value: JsonObject = {
            "bitstream": self.bitstream,
            "codec": self.codec,
            "parameters": self.parameters,
        }
        if self.profile is not None:
            value["profile"] = self.profile
        if self.weights:
            value["weights"] = list(self.weights)
        return value

    def to_bytes(self) -> bytes:
        """The complete header as it stands at the start of a file."""
        text = dump(self.as_json())
        head = _FIXED.pack(MAGIC, FORMAT_VERSION, FORMAT_VERSION, 0, len(text)) + text
        return head + _CHECKSUM.pack(checksum64(head))


def read_header(start: bytes, read: Callable[[int], bytes], limits: Limits) -> tuple[Header, bytes]:
    """Read the rest of a header that begins with ``start`` through ``read(n)``; also return its exact bytes.

    ``read`` returns up to ``n`` bytes; ``start`` holds at most the magic number.
    """
    fixed = start + read(_FIXED.size - len(start))
    _check_magic(fixed)
    if len(fixed) < _FIXED.size:
        raise TruncatedFile(f"the file ends inside its header, after {len(fixed)} bytes")
    _, version, minimum_reader, features, length = _FIXED.unpack(fixed)
    if minimum_reader > FORMAT_VERSION:
        raise UnsupportedVersion(
            f"the file needs a reader of container version {minimum_reader}, this one reads "
            f"{FORMAT_VERSION}; upgrade codeckit"
        )
    if version < minimum_reader or version == 0:
        raise CorruptFile(f"header: container version {version} with minimum reader {minimum_reader}")
    if features & ~KNOWN_FEATURES:
        raise UnsupportedVersion(
            f"the file uses container features 0x{features:04x} unknown to this reader; upgrade codeckit"
        )
    limits.check("max_header_bytes", length, "the header")
    rest = read(length + _CHECKSUM.size)
    if len(rest) < length + _CHECKSUM.size:
        raise TruncatedFile(f"the file ends inside its header, after {len(fixed) + len(rest)} bytes")
    text = rest[:length]
    (stored,) = _CHECKSUM.unpack(rest[length:])
    if stored != checksum64(fixed + text):
        raise ChecksumMismatch("header: the checksum disagrees with the bytes; the file is damaged")
    value = load(text)
    problem = _problem(value)
    if problem is not None:
        raise CorruptFile(f"header: {problem}")
    return _from_json(value), fixed + rest


def _check_magic(start: bytes) -> None:
    if not start:
        raise TruncatedFile("the file is empty")
    if start[:8] == MAGIC:
        return
    if MAGIC.startswith(start):
        raise TruncatedFile(f"the file ends inside its magic number, after {len(start)} bytes")
    if start[:4] == MAGIC[:4]:
        raise CorruptFile("line ends of the file were converted, as text-mode transfers do; copy it as binary")
    raise CorruptFile("not a codeckit file: the magic number at byte 0 is missing")


def _problem(value: JsonObject) -> str | None:
    missing = _REQUIRED - value.keys()
    unknown = value.keys() - _REQUIRED - _OPTIONAL
    if missing or unknown:
        return f"missing fields {sorted(missing)}, unknown fields {sorted(unknown)}"
    codec, bitstream, parameters = value["codec"], value["bitstream"], value["parameters"]
    profile, weights = value.get("profile", "none"), value.get("weights", ["0" * 64])
    if not isinstance(codec, str) or not _CODEC_ID.fullmatch(codec):
        return f"codec id {codec!r} is not 1 to 64 of a-z 0-9 + . _ -"
    if isinstance(bitstream, bool) or not isinstance(bitstream, int) or bitstream < 1:
        return f"bitstream version {bitstream!r} is not a positive integer"
    if not isinstance(parameters, dict):
        return "parameters are not an object"
    if not isinstance(profile, str) or not profile:
        return f"profile {profile!r} is not a name"
    if not isinstance(weights, list) or not weights:
        return "weights are not a list of SHA-256 digests"
    if not all(isinstance(item, str) and _SHA256.fullmatch(item) for item in weights):
        return "weights are not SHA-256 digests in lower-case hex"
    return None


def _from_json(value: JsonObject) -> Header:
    codec, bitstream, parameters = value["codec"], value["bitstream"], value["parameters"]
    profile, weights = value.get("profile"), value.get("weights", [])
    # _problem() has checked the types already; these narrow them for the type checker
    if not (isinstance(codec, str) and isinstance(bitstream, int) and isinstance(parameters, dict)):
        raise CorruptFile("header: fields have the wrong types")
    if not (profile is None or isinstance(profile, str)) or not isinstance(weights, list):
        raise CorruptFile("header: optional fields have the wrong types")
    return Header(
        codec=codec,
        bitstream=bitstream,
        parameters=parameters,
        profile=profile,
        weights=tuple(str(item) for item in weights),
    )
