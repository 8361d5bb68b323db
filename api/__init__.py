"""Neural codecs that write real files: encode, decode and random access from Python.

::

    import codeckit

    codeckit.encode("clip.mp4", "clip.ck", codec="hnerv", preset="quick")
    codeckit.decode("clip.ck", "clip.mkv")
    with codeckit.open("clip.ck") as reader:
        frames = reader.frames[10:20]            # uint8 [T, H, W, 3]

    data = codeckit.encode(frames, codec="hnerv")   # arrays in, bytes out
    frames = codeckit.decode(data)                  # and back

Importing this package imports neither torch nor any codec.
"""

from __future__ import annotations

from .batch_encoding import encode_many
from .codecs.protocol import DecodeReport, EncodeReport, Selection
from .codecs.registry import CodecListing, list_codecs
from .codecs.run_context import CancellationToken, Progress, RunContext
from .decoding import decode
from .encoding import DEFAULT_CODECS, encode
from .formats.errors import (
    Cancelled,
    ChecksumMismatch,
    CodecError,
    CorruptFile,
    DeviceUnavailable,
    ExternalFailure,
    InvalidParameter,
    LimitExceeded,
    NumericProfileMismatch,
    OutputFailure,
    TruncatedFile,
    UnknownCodec,
    UnsupportedInput,
    UnsupportedVersion,
)
from .formats.kinds import probe_kind as probe
from .formats.limits import Limits
from .inspection import FileInfo, info, verify
from .reading import FileReader, open_file

open = open_file  # noqa: A001  the name users expect, as in gzip.open and zarr.open

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_CODECS",
    "CancellationToken",
    "Cancelled",
    "ChecksumMismatch",
    "CodecError",
    "CodecListing",
    "CorruptFile",
    "DecodeReport",
    "DeviceUnavailable",
    "EncodeReport",
    "ExternalFailure",
    "FileInfo",
    "FileReader",
    "InvalidParameter",
    "LimitExceeded",
    "Limits",
    "NumericProfileMismatch",
    "OutputFailure",
    "Progress",
    "RunContext",
    "Selection",
    "TruncatedFile",
    "UnknownCodec",
    "UnsupportedInput",
    "UnsupportedVersion",
    "decode",
    "encode",
    "encode_many",
    "info",
    "list_codecs",
    "open",
    "probe",
    "verify",
]
