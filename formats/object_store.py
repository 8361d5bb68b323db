"""Named objects below one address: any fsspec URL (files, HTTP, S3, GCS, memory), or Redis.

Names are plain: letters, digits, dot, dash and underscore, so that a name read from a file can never leave the
address. Every read states how many bytes it may be; nothing is allocated for more.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from .errors import CodecError, CorruptFile, ExternalFailure, InvalidParameter, LimitExceeded, OutputFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FsspecStore",
    "ObjectStore",
    "check_name",
    "is_url",
    "open_ranges",
    "open_store",
    "open_stream",
    "transfer_errors",
]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)")
_READ_PIECE = 1 << 18
_TIMEOUT_SECONDS = 30.0


class ObjectStore(ABC):
    """Where named objects lie; a context manager."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A forward stream of an object; raises :class:`InvalidParameter` where there is none.

        ``read(n)`` gives up to ``n`` bytes as soon as some have come. ``close`` may be called from another thread
        to end a read that waits.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Store an object, replacing one of that name."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """A whole object; raises :class:`LimitExceeded` when it is longer than ``max_bytes``."""
        pieces = []
        total = 0
        with closing(self.open(name)) as stream, transfer_errors(name):
            while piece := stream.read(_READ_PIECE):
                total += len(piece)
                if total > max_bytes:
                    raise LimitExceeded(f"{name} is longer than the {max_bytes:,} bytes it may have")
                pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Give connections back."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FsspecStore(ObjectStore):
    """Objects below a URL that fsspec knows; ``options`` go to its file system (credentials, time limits)."""

    def __init__(self, url: str, **options: Any) -> None:
        with transfer_errors(url):
            self._files, path = _fsspec().core.url_to_fs(url, **options)
        self._root = path.rstrip("/")

    def open(self, name: str) -> BinaryIO:
        return _open_forward(self._files, self._path(name))

    def exists(self, name: str) -> bool:
        with transfer_errors(name):
            return bool(self._files.exists(self._path(name)))

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(path, data)
        except (OSError, NotImplementedError) as error:
            raise OutputFailure(f"cannot store {name}: {error or type(error).__name__}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"


def open_store(url: str, **options: Any) -> ObjectStore:
    """The store at ``url``: ``redis://`` and ``rediss://`` are Redis, everything else goes to fsspec.

    Raises :class:`ExternalFailure` when the package that speaks the protocol is missing.
    """
    if url.startswith(("redis://", "rediss://")):
        from .redis_store import RedisStore

        return RedisStore(url, **options)
    return FsspecStore(url, **options)


def open_stream(url: str, **options: Any) -> BinaryIO:
    """A forward stream of the file at a URL that fsspec knows; over HTTP one response, read as it comes."""
    with transfer_errors(url):
        files, path = _fsspec().core.url_to_fs(url, **options)
    return _open_forward(files, path)


def open_ranges(url: str, **options: Any) -> BinaryIO:
    """A seekable file at a URL that fsspec knows; only what is read is fetched, over HTTP by range requests.

    Raises :class:`ExternalFailure` where a server tells no size or gives no ranges.
    """
    with transfer_errors(url):
        files, path = _fsspec().core.url_to_fs(url, **options)
        if _is_http(files):
            from .http_ranges import HTTPRanges

            return cast("BinaryIO", io.BufferedReader(HTTPRanges(files, path), _READ_PIECE))
        stream: BinaryIO = files.open(path, "rb", block_size=_READ_PIECE)
        return stream


def is_url(value: object) -> bool:
    """Whether ``value`` is a string such as ``s3://bucket/name``."""
    return isinstance(value, str) and _URL.match(value) is not None


def check_name(name: str) -> str:
    """``name`` itself; raises :class:`CorruptFile` unless it is plain."""
    if not _NAME.fullmatch(name):
        raise CorruptFile(f"object name {name[:80]!r} is not 1 to 128 letters, digits, '.', '-' or '_'")
    return name


@contextmanager
def transfer_errors(what: str) -> Iterator[None]:
    """Turn what file systems and sockets raise into the library's errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidParameter(f"there is nothing at {what}") from error
    except CodecError:
        raise
    except (ImportError, ValueError) as error:
        raise ExternalFailure(f"cannot open {what}: {error}") from error
    except OSError as error:
        raise ExternalFailure(f"the transfer of {what} failed: {error or type(error).__name__}") from error
    except Exception as error:
        # aiohttp's and redis's errors are no OSErrors, and neither package need be installed
        if type(error).__module__.partition(".")[0] in ("aiohttp", "redis", "botocore", "gcsfs", "fsspec"):
            raise ExternalFailure(f"the transfer of {what} failed: {error or type(error).__name__}") from error
        raise


def _fsspec() -> Any:
    try:
        import fsspec  # optional: only where something lies behind a URL
    except ImportError as error:
        raise ExternalFailure("reading from URLs needs fsspec; install codeckit[remote]") from error
    return fsspec


def _open_forward(files: Any, path: str) -> BinaryIO:
    options: dict[str, Any] = {}
    if _is_http(files):
        import aiohttp

        # block size 0 is one response, read as it comes; any size spares the request that asks for it; and a slow
        # transfer may take its time as long as bytes keep coming
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_SECONDS, sock_read=_TIMEOUT_SECONDS)
        options = {"block_size": 0, "size": 1, "timeout": limits}
    with transfer_errors(path):
        stream: BinaryIO = files.open(path, "rb", **options)
        return stream


def _is_http(files: Any) -> bool:
    protocols = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
    return "http" in protocols
