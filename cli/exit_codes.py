"""Exit codes, the contract that scripts rely on."""

from __future__ import annotations

from enum import IntEnum

from ..formats.errors import (
    Cancelled,
    CodecError,
    CorruptFile,
    DeviceUnavailable,
    ExternalFailure,
    InvalidParameter,
    LimitExceeded,
    NumericProfileMismatch,
    UnknownCodec,
    UnsupportedInput,
    UnsupportedVersion,
)

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """What the command returns to the shell."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    CORRUPT = 3
    UNSUPPORTED = 4
    LIMIT = 5
    INTERRUPTED = 130


_BY_ERROR: tuple[tuple[type[CodecError], ExitCode], ...] = (
    (CorruptFile, ExitCode.CORRUPT),
    (UnsupportedVersion, ExitCode.UNSUPPORTED),
    (UnsupportedInput, ExitCode.UNSUPPORTED),
    (NumericProfileMismatch, ExitCode.UNSUPPORTED),
    (DeviceUnavailable, ExitCode.UNSUPPORTED),
    (ExternalFailure, ExitCode.UNSUPPORTED),
    (LimitExceeded, ExitCode.LIMIT),
    (Cancelled, ExitCode.INTERRUPTED),
    (UnknownCodec, ExitCode.USAGE),
    (InvalidParameter, ExitCode.USAGE),
)


def exit_code_of(error: CodecError) -> ExitCode:
    """The exit code for an error that ended the only input."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.SOME_FAILED)
