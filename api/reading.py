"""``codeckit.open``: random access into a file, made for data pipelines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from .codecs.run_context import RunContext
from .decoding import open_container
from .formats.errors import InvalidParameter
from .formats.header import Header
from .formats.reader import ContainerReader, ContainerSource

__all__ = ["FileReader", "open_file"]


def open_file(source: ContainerSource, *, device: str = "cpu", context: RunContext | None = None) -> FileReader:
    """Open a codeckit file for random access.

    Opening reads the header only. Attributes of the codec's view are available on the reader: ``frames`` for video,
    ``read`` for bytes, ``pixels`` for images, ``layers`` for caches. Readers made from a path or from bytes can be
    pickled, survive ``fork`` and ``spawn`` (each process opens its own handle), and give the same result every time.

    Raises :class:`CorruptFile` and its kinds, :class:`UnknownCodec`, :class:`InvalidParameter`.
    """
    return FileReader(source, context or RunContext(device=device))


class FileReader:
    """A file opened by :func:`codeckit.open`; a context manager."""

    def __init__(self, source: ContainerSource, context: RunContext) -> None:
        self._source = Path(source).absolute() if isinstance(source, (str, os.PathLike)) else source
        self._context = context
        self._process = 0
        self._container: ContainerReader | None = None
        self._view: Any = None
        self.header: Header = self._opened().header

    @property
    def codec(self) -> str:
        """The id of the codec that wrote the file."""
        return self.header.codec

    def close(self) -> None:
        """Close the file; the reader opens it again when it is used again."""
        if self._container is not None and self._process == os.getpid():
            self._container.close()
        self._container = None
        self._view = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "header":
            raise AttributeError(name)
        container = self._opened()
        if self._view is None:
            self._view = open_container(container).open(container, context=self._context)
        try:
            return getattr(self._view, name)
        except AttributeError:
            public = [item for item in dir(self._view) if not item.startswith("_")]
            raise AttributeError(
                f"a {container.header.codec} file has no {name!r}; it has {', '.join(public)}"
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._source, (Path, bytes)):
            raise InvalidParameter("only readers opened from a path or from bytes can be pickled")
        # callbacks and cancellation belong to the process that made them
        return _reopen, (self._source, self._context.device, self._context.threads)

    def __repr__(self) -> str:
        name = self._source if isinstance(self._source, Path) else type(self._source).__name__
        return f"<codeckit reader of {name}: {self.header.codec}>"

    def _opened(self) -> ContainerReader:
        if self._container is None or self._process != os.getpid():
            # a handle inherited through fork shares its file position with the parent
            self._container = ContainerReader(self._source, limits=self._context.limits)
            self._process = os.getpid()
            self._view = None
        return self._container


def _reopen(source: ContainerSource, device: str, threads: int | None) -> FileReader:
    return FileReader(source, RunContext(device=device, threads=threads))
