"""Outputs that appear whole or not at all: a locked sibling temporary, fsync, then rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from .errors import OutputFailure
from .spooling import is_stream_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .checksums import Buffer

__all__ = ["AtomicFile", "AtomicFolder", "output_errors"]

_SUFFIX = ".ck-tmp"
_FOLDER, _RETIRED = ".d", ".old"
_NAME_BYTES = 200


class AtomicFile:
    """A file that gets its final name only by :meth:`commit`.

    Until then the bytes are in a hidden sibling, ``.NAME.XXXXXXXX.ck-tmp``, locked while its writer lives. A later
    writer of the same name sweeps siblings whose writer died. Leaving the context without ``commit`` removes it.
    A symbolic link stays, and what it points to is replaced; a device or a named pipe is written to, never replaced.

    Raises :class:`OutputFailure` when the output exists (unless ``overwrite``), the disk is full, or the folder
    cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._temporary: Path | None = None
        if is_stream_path(self.path):
            self._stream: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the context is left
            return
        if self.path.is_dir():
            raise OutputFailure(f"{self.path} is a directory; name a file")
        _refuse_existing(self.path, overwrite)
        if self.path.is_symlink():
            self.path = self.path.resolve()
        with output_errors(self.path):
            _sweep(self.path)
            self._temporary, self._stream = _create_locked(self.path)

    @property
    def stream(self) -> BinaryIO:
        """The open temporary, seekable."""
        return self._stream

    @property
    def is_regular(self) -> bool:
        """Whether the temporary becomes the file itself, rather than being copied into a device or pipe."""
        return self._temporary is not None

    def write(self, data: Buffer) -> int:
        with output_errors(self.path):
            return self._stream.write(data)

    def commit(self) -> None:
        """Make everything durable and give the file its name."""
        with output_errors(self.path):
            self._stream.flush()
            if self._temporary is None:
                self._stream.seek(0)
                with self.path.open("wb") as target:
                    shutil.copyfileobj(self._stream, target)
                self._stream.close()
                return
            os.fsync(self._stream.fileno())
            _give_name(self._temporary, self.path, overwrite=self._overwrite)
            self._stream.close()
            _sync_folder(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stream.closed:
            # buffered bytes of a failed write must not raise again while the first error travels up
            with contextlib.suppress(OSError):
                self._stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


class AtomicFolder:
    """A folder that gets its final name only by :meth:`commit`; write into :attr:`temporary` until then."""

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        _refuse_existing(self.path, overwrite)
        with output_errors(self.path):
            _sweep(self.path)
            # the lock lives in a sibling file, so that the folder itself holds nothing but the output
            self._lock_path, self._lock = _create_locked(self.path)
            self.temporary = self._lock_path.with_name(self._lock_path.name + _FOLDER)
            self.temporary.mkdir()

    def commit(self) -> None:
        """Make everything durable and give the folder its name."""
        with output_errors(self.path):
            for item in sorted(self.temporary.rglob("*")):
                if item.is_file():
                    _sync_file(item)
            _sync_folder(self.temporary)
            if self._overwrite and self.path.exists():
                retired = self.temporary.with_name(self.temporary.name + _RETIRED)
                self.path.rename(retired)
                self.temporary.rename(self.path)
                _remove(retired)
            else:
                self.temporary.rename(self.path)
            _sync_folder(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        self._lock.close()
        self._lock_path.unlink(missing_ok=True)


@contextlib.contextmanager
def output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the operating system's errors while writing ``path`` into :class:`OutputFailure`."""
    try:
        yield
    except BrokenPipeError as error:
        raise OutputFailure(f"{path}: the reader of the pipe went away") from error
    except FileNotFoundError as error:
        raise OutputFailure(f"{path}: the folder does not exist; create it first") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputFailure(f"{path}: no space left on the device; nothing was kept") from error
        raise OutputFailure(f"{path}: cannot write: {error.strerror or error}") from error


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(path):
        raise OutputFailure(f"{path} exists already; pass overwrite (-f on the command line) to replace it")


def _create_locked(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = path.with_name(f"{_start_of_name(path)}{secrets.token_hex(4)}{_SUFFIX}")
        stream = temporary.open("x+b")
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink == 1:
            return temporary, stream
        stream.close()  # a sweeper took the file between creation and lock


def _start_of_name(path: Path) -> str:
    """What the names of temporaries of ``path`` begin with; shortened, because file systems take 255 bytes."""
    return "." + os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES]) + "."


def _sweep(path: Path) -> None:
    """Remove temporaries of ``path`` whose writer no longer lives."""
    start = _start_of_name(path)
    for item in path.parent.iterdir():
        if not (item.name.startswith(start) and item.name.endswith(_SUFFIX)):
            continue
        try:
            with item.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                retired = item.with_name(item.name + _FOLDER + _RETIRED)
                if retired.exists() and not path.exists():
                    retired.rename(path)  # a writer died between taking the old output away and naming its own
                for folder in (item.with_name(item.name + _FOLDER), retired):
                    if folder.exists():
                        _remove(folder)
                item.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # its writer lives, or another sweeper was faster


def _give_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # unlike rename, a link refuses an existing name
    except FileExistsError as error:
        raise OutputFailure(f"{path} was created by somebody else meanwhile; nothing was replaced") from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        _refuse_existing(path, overwrite)  # a file system without links: a small race remains
        temporary.replace(path)
        return
    temporary.unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
