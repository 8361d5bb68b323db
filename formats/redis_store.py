"""Objects in Redis: one string per object, read in pieces."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

from .errors import ExternalFailure, InvalidParameter, OutputFailure
from .object_store import ObjectStore, check_name, transfer_errors

__all__ = ["RedisStore"]

_PIECE = 1 << 18
_MAX_STRING = 512 << 20
_TIMEOUT_SECONDS = 30.0


class RedisStore(ObjectStore):
    """Objects of a Redis server: ``redis://[user:password@]host[:port]/DATABASE/PREFIX`` (``rediss://`` for TLS).

    The key of an object is ``PREFIX/NAME``, or ``NAME`` without a prefix. ``options`` go to ``redis.Redis``.
    """

    def __init__(self, url: str, **options: Any) -> None:
        try:
            import redis  # optional: the extra `remote`
        except ImportError as error:
            raise ExternalFailure("redis:// needs the package redis; install codeckit[remote]") from error
        parts = urlsplit(url)
        database, _, prefix = parts.path.strip("/").partition("/")
        if database and not database.isdecimal():
            raise InvalidParameter(f"redis URL: the path begins with the database number, got {database!r}")
        self._prefix = prefix + "/" if prefix else ""
        address = urlunsplit(parts._replace(path=f"/{database or 0}"))
        settings = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS, **options}
        with transfer_errors("the redis URL"):
            self._client: Any = redis.Redis.from_url(address, **settings)

    def open(self, name: str) -> BinaryIO:
        if not self.exists(name):
            raise InvalidParameter(f"there is nothing at {name}")
        return cast("BinaryIO", _RedisStream(self._client, self._key(name)))

    def exists(self, name: str) -> bool:
        with transfer_errors(name):
            return bool(self._client.exists(self._key(name)))

    def put(self, name: str, data: bytes) -> None:
        if len(data) > _MAX_STRING:
            raise OutputFailure(f"{name} has {len(data):,} bytes, Redis holds at most {_MAX_STRING:,}; use more chunks")
        with transfer_errors(name):
            self._client.set(self._key(name), data)

    def close(self) -> None:
        self._client.close()

    def _key(self, name: str) -> str:
        return self._prefix + check_name(name)


class _RedisStream(io.RawIOBase):
    """A string, read forward by GETRANGE."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        if self.closed:
            raise ValueError("the stream is closed")
        wanted = _PIECE if count < 0 else min(count, _PIECE)
        if wanted == 0:
            return b""
        data = bytes(self._client.getrange(self._key, self._position, self._position + wanted - 1))
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
