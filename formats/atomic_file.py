"""Outputs that appear whole or not at all: a locked sibling temporary, fsync, then rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from .errors import OutputFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .checksums import Buffer

__all__ = ["AtomicFile", "AtomicFolder", "output_errors"]

_SUFFIX = ".ck-tmp"


class AtomicFile:
    """A file that gets its final name only by :meth:`commit`.

    Until then the bytes are in a hidden sibling, ``.NAME.XXXXXXXX.ck-tmp``, locked while its writer lives. A later
    writer of the same name sweeps siblings whose writer died. Leaving the context without ``commit`` removes it.

    Raises :class:`OutputFailure` when the output exists (unless ``overwrite``), the disk is full, or the folder
    cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        _refuse_existing(self.path, overwrite)
        if self.path.is_dir():
            raise OutputFailure(f"{self.path} is a directory; name a file")
        with output_errors(self.path):
            _sweep(self.path)
            self._temporary, self._stream = _create_locked(self.path)

    @property
    def stream(self) -> BinaryIO:
        """The open temporary, seekable."""
        return self._stream

    def write(self, data: Buffer) -> int:
        with output_errors(self.path):
            return self._stream.write(data)

    def commit(self) -> None:
        """Make everything durable and give the file its name."""
        with output_errors(self.path):
            self._stream.flush()
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
            self.temporary = self._lock_path.with_name(self._lock_path.name + ".d")
            self.temporary.mkdir()

    def commit(self) -> None:
        """Make everything durable and give the folder its name."""
        with output_errors(self.path):
            for item in sorted(self.temporary.rglob("*")):
                if item.is_file():
                    _sync_file(item)
            _sync_folder(self.temporary)
            if self._overwrite and self.path.exists():
                retired = self.temporary.with_name(self.temporary.name + ".old")
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
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
        stream = temporary.open("x+b")
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink == 1:
            return temporary, stream
        stream.close()  # a sweeper took the file between creation and lock


def _sweep(path: Path) -> None:
    """Remove temporaries of ``path`` whose writer no longer lives."""
    start = f".{path.name}."
    for item in path.parent.iterdir():
        if not (item.name.startswith(start) and item.name.endswith(_SUFFIX)):
            continue
        try:
            with item.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for folder in path.parent.glob(f"{item.name}.d*"):
                    shutil.rmtree(folder, ignore_errors=True)
                item.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # its writer lives, or another sweeper was faster


def _give_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
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
