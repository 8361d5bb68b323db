"""Every error the library raises on bad input, in one tree.

::

    CodecError
    ├── CorruptFile               the bytes are not what a codeckit encoder wrote
    │   ├── TruncatedFile         the file ends before its end chunk
    │   └── ChecksumMismatch      a stored checksum disagrees with the bytes
    ├── UnsupportedVersion        a newer format, bitstream or feature than this reader knows
    ├── UnknownCodec              the codec id is not registered here
    ├── UnsupportedInput          the input is readable but of a kind the codec cannot take
    ├── LimitExceeded             the file or input asks for more than the limits allow
    ├── InvalidParameter          a setting is unknown or out of range (also a ``ValueError``)
    ├── DeviceUnavailable         the requested device is not present
    ├── NumericProfileMismatch    the file needs an exact-arithmetic recipe this reader lacks
    ├── ExternalFailure           a plug-in or an optional dependency failed or is missing
    ├── OutputFailure             the output could not be written (disk full, closed pipe, exists)
    └── Cancelled                 the caller asked to stop; resumable state was kept where promised

Each message says what was wrong, where (chunk, offset, lane, row), and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "ChecksumMismatch",
    "CodecError",
    "CorruptFile",
    "DeviceUnavailable",
    "ExternalFailure",
    "InvalidParameter",
    "LimitExceeded",
    "NumericProfileMismatch",
    "OutputFailure",
    "TruncatedFile",
    "UnknownCodec",
    "UnsupportedInput",
    "UnsupportedVersion",
]


class CodecError(Exception):
    """Base of every error the library raises on bad input or bad settings."""


class CorruptFile(CodecError):
    """The bytes are not a valid file; the message names the chunk and the offset."""


class TruncatedFile(CorruptFile):
    """The file ends too early; whole chunks can be had by asking for recovery."""


class ChecksumMismatch(CorruptFile):
    """A stored checksum disagrees with the bytes it covers."""


class UnsupportedVersion(CodecError):
    """The file was written by a newer version, or uses a feature this reader lacks."""


class UnknownCodec(CodecError):
    """No registered codec has the requested id."""


class UnsupportedInput(CodecError):
    """The input can be read but the codec has no way to represent it."""


class LimitExceeded(CodecError):
    """Something asks for more than :class:`codeckit.formats.limits.Limits` allows."""


class InvalidParameter(CodecError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class DeviceUnavailable(CodecError):
    """The requested device does not exist on this machine."""


class NumericProfileMismatch(CodecError):
    """The file names an exact-arithmetic recipe that this reader does not have."""


class ExternalFailure(CodecError):
    """A plug-in or an optional dependency is missing or failed."""


class OutputFailure(CodecError):
    """The output could not be written."""


class Cancelled(CodecError):
    """The caller cancelled the run."""
