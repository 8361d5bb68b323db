"""Text as arrays of token ids for training language models, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....formats.atomic_file import AtomicFile
from ....formats.errors import CorruptFile, InvalidParameter
from ...parameters import make_parameters
from .parameters import Mode, WindowsParams
from .scheme import load_scheme

__all__ = ["TokenColumn", "WindowTokenizer"]

_BLOCK_BYTES = 1 << 18

S = TypeVar("S")
T = TypeVar("T")


class WindowTokenizer:
    """Token ids of text, exactly reversible for any bytes.

    ::

        tokenizer = WindowTokenizer()                      # equal-info windows of 16 bits
        tokenizer = WindowTokenizer(mode="dictionary")     # the dictionary: more bytes per token
        ids = tokenizer.encode("Call me Ishmael.")         # uint16 [tokens]
        tokenizer.decode(ids)                              # b"Call me Ishmael."

    The modes and settings are those of the codec ``windows``. ``token_bits`` is 16 or 8: a window of b bits becomes
    b / token_bits ids, the most significant first; the controls ``ac``, ``static`` and ``gzip`` make 8-bit tokens.
    Tokenizers can be pickled; threads of one process may share one.

    With 16-bit tokens, no text contains id 0 in mode ``dictionary`` or in windows of 16 bits with a reset at each:
    :attr:`separator` is then 0 and may stand between documents.

    Raises:
        InvalidParameter: settings that do not go together, such as 24-bit windows in 16-bit tokens.
    """

    def __init__(
        self,
        *,
        mode: Mode = "windows",
        bits: Literal[16, 24, 32, 64, 128] = 16,
        token_bits: Literal[8, 16] = 16,
        reset_every: int = 1,
        delayed: bool = False,
        parse: Literal["fewest", "longest"] | None = None,
        model: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        if token_bits not in (8, 16):
            raise InvalidParameter(f"token_bits={token_bits} is not 8 or 16")
        if threads is not None and threads < 1:
            raise InvalidParameter(f"threads={threads} is not at least 1")
        settings = {
            "mode": mode,
            "bits": bits,
            "reset_every": reset_every,
            "delayed": delayed,
            "parse": parse,
            "model": None if model is None else os.fspath(model),
        }
        self._params: WindowsParams = make_parameters(WindowsParams, {"": {}}, "", settings)
        if mode == "windows" and bits % token_bits:
            raise InvalidParameter(f"windows of {bits} bits do not divide into {token_bits}-bit tokens; take 8")
        if mode in ("ac", "static", "gzip") and token_bits != 8:
            raise InvalidParameter(f"mode={mode} makes bytes; pass token_bits=8")
        self._token_bits = token_bits
        self._threads = threads
        self._scheme = load_scheme(self._params)

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {key: value for key, value in asdict(self._params).items() if key != "block_kib"}
        return _restored, ({**settings, "token_bits": self._token_bits, "threads": self._threads},)

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id: 256 or 65,536."""
        return 1 << self._token_bits

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the model or dictionary the ids depend on; keep it with the ids."""
        return self._scheme.digest

    @property
    def separator(self) -> int | None:
        """The id that no text contains, or None where every id may occur."""
        return 0 if self._scheme.dictionary is not None and self._token_bits == 16 else None

    def encode(self, text: str | bytes) -> NDArray[np.uint16]:
        """Ids of ``text`` (a str is taken as UTF-8), as uint16 [tokens].

        Long text is coded in blocks of 256 KiB where decoding need not know of them: in mode ``dictionary``, and with
        a reset at each window.
        """
        return _joined(self._in_threads(self._encode_block, _blocks(_data(text), self._block_bytes)))

    def encode_batch(self, texts: Iterable[str | bytes]) -> list[NDArray[np.uint16]]:
        """Ids of each text, on several threads; the same as :meth:`encode` of each."""
        return list(self._in_threads(lambda text: _joined(map(self._encode_block, self._pieces(text))), texts))

    def encode_stream(self, pieces: Iterable[str | bytes]) -> Iterator[NDArray[np.uint16]]:
        """Ids of the text that ``pieces`` make together, block by block; joined, the same as of :meth:`encode`.

        Raises :class:`InvalidParameter` where a text cannot be coded in blocks.
        """
        if self._block_bytes is None:
            raise InvalidParameter("streaming needs mode=dictionary, or mode=windows with reset_every=1")
        waiting = bytearray()
        for piece in pieces:
            waiting += piece.encode() if isinstance(piece, str) else piece
            while len(waiting) >= self._block_bytes:
                yield self._encode_block(np.frombuffer(bytes(waiting[: self._block_bytes]), np.uint8))
                del waiting[: self._block_bytes]
        if waiting:
            yield self._encode_block(np.frombuffer(bytes(waiting), np.uint8))

    def decode(self, ids: NDArray[Any] | Sequence[int], *, size_bytes: int | None = None) -> bytes:
        """The bytes that ``ids`` stand for; separators stand for none.

        ``size_bytes`` must be given for ``delayed`` windows and in the modes ``ac`` and ``static``, whose tokens do
        not say where the text ends.

        Raises:
            CorruptFile: ids no encoder makes.
            InvalidParameter: ``size_bytes`` is missing.
        """
        array = np.asarray(ids)
        if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= self.vocabulary_size):
            raise CorruptFile(
                f"ids are integers from 0 to {self.vocabulary_size - 1:,}, got {array.dtype} up to {array.max()}"
            )
        if array.ndim > 1:
            raise CorruptFile(f"ids have one axis, got {array.ndim}")
        if size_bytes is None and (self._params.delayed or self._params.mode in ("ac", "static")):
            raise InvalidParameter("these tokens do not say where the text ends; pass size_bytes")
        if self.separator is not None:
            array = array[array != self.separator]
        stored = array.astype(np.uint8 if self._token_bits == 8 else self._stored_type).view(np.uint8)
        if self._token_bits == 8 and self._scheme.dictionary is not None:
            if len(stored) % 2:
                raise CorruptFile(f"{len(stored)} ids of 8 bits are no whole number of 16-bit strings")
            stored = stored.view(">u2").astype("<u2").view(np.uint8)
        return self._scheme.decode(stored, size_bytes, "ids").tobytes()

    def decode_batch(self, batch: Iterable[NDArray[Any] | Sequence[int]]) -> list[bytes]:
        """The bytes of each array of ids, on several threads."""
        return list(self._in_threads(self.decode, batch))

    def write_bin(
        self, path: str | os.PathLike[str], documents: Iterable[str | bytes], *, overwrite: bool = False
    ) -> int:
        """Write the ids of all documents to ``path`` for training through a memory map; return their number.

        The file holds nothing but ids, little-endian uint16 (uint8 with 8-bit tokens), each document followed by
        :attr:`separator` where there is one. ``PATH.json`` beside it says what the ids depend on and how many there
        are of each document. Both appear only when complete.
        """
        dtype = "<u2" if self._token_bits == 16 else "u1"
        end = np.empty(0, np.uint16) if self.separator is None else np.array([self.separator], np.uint16)
        lengths = []
        with AtomicFile(path, overwrite=overwrite) as file:
            for document in documents:
                ids = np.concatenate([self.encode(document), end])
                file.write(ids.astype(dtype).tobytes())
                lengths.append(len(ids))
            settings = {key: value for key, value in asdict(self._params).items() if key not in ("block_kib", "model")}
            about = {**settings, "token_bits": self._token_bits, "digest": self.digest, "separator": self.separator}
            with AtomicFile(os.fspath(path) + ".json", overwrite=overwrite) as description:
                description.write(json.dumps({**about, "tokens": sum(lengths), "documents": lengths}).encode())
                description.commit()
            file.commit()
        return sum(lengths)

    def open_bin(self, path: str | os.PathLike[str]) -> NDArray[Any]:
        """The ids of :meth:`write_bin` as a read-only memory map [tokens] (an empty file as an empty array).

        Raises :class:`CorruptFile` when the file was made with another tokenizer or has another length than it says.
        """
        description = Path(os.fspath(path) + ".json")
        try:
            about = json.loads(description.read_bytes())
            digest, tokens, token_bits = str(about["digest"]), int(about["tokens"]), int(about["token_bits"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{description} does not describe a file of ids: {error}") from error
        if digest != self.digest or token_bits != self._token_bits:
            raise CorruptFile(
                f"{path}: made with model {digest[:16]}... in {token_bits}-bit tokens, not this tokenizer"
            )
        size = Path(path).stat().st_size
        if size != tokens * token_bits // 8:
            raise CorruptFile(f"{path}: {size:,} bytes, but {description} promises {tokens:,} ids")
        dtype = np.dtype("<u2" if token_bits == 16 else "u1")
        return np.memmap(path, dtype, mode="r") if size else np.empty(0, dtype)

    def column(self, text: str = "text", ids: str = "input_ids") -> TokenColumn:
        """A function for ``datasets.Dataset.map(..., batched=True)`` from column ``text`` to column ``ids``."""
        return TokenColumn(self, text, ids)

    @property
    def _block_bytes(self) -> int | None:
        """The size of the blocks a text is coded in; None where it is coded as a whole."""
        apart = self._params.mode == "windows" and self._params.reset_every == 1 and not self._params.delayed
        return _BLOCK_BYTES if self._params.mode == "dictionary" or apart else None

    @property
    def _stored_type(self) -> str:
        return "<u2" if self._scheme.dictionary is not None else ">u2"

    def _pieces(self, text: str | bytes) -> Iterable[NDArray[np.uint8]]:
        return _blocks(_data(text), self._block_bytes)

    def _encode_block(self, data: NDArray[np.uint8]) -> NDArray[np.uint16]:
        if self._scheme.dictionary is not None:
            tokens = self._scheme.tokens(data)
            return tokens if self._token_bits == 16 else tokens.astype(">u2").view(np.uint8).astype(np.uint16)
        stored = self._scheme.encode(data)
        return stored.view(">u2").astype(np.uint16) if self._token_bits == 16 else stored.astype(np.uint16)

    def _in_threads(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        listed = list(items)
        threads = min(self._threads or os.cpu_count() or 1, len(listed))
        if threads <= 1:
            yield from map(work, listed)
            return
        with ThreadPoolExecutor(max_workers=threads) as executor:
            yield from executor.map(work, listed)


class TokenColumn:
    """From a batch of a column of text to a batch of a column of ids; what ``datasets`` calls for each batch."""

    def __init__(self, tokenizer: WindowTokenizer, text: str, ids: str) -> None:
        self._tokenizer = tokenizer
        self._text = text
        self._ids = ids

    def __call__(self, batch: Mapping[str, Sequence[str | bytes]]) -> dict[str, list[NDArray[np.uint16]]]:
        return {self._ids: self._tokenizer.encode_batch(batch[self._text])}


def _restored(settings: dict[str, Any]) -> WindowTokenizer:
    return WindowTokenizer(**settings)


def _data(text: str | bytes) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)


def _blocks(data: NDArray[np.uint8], size: int | None) -> list[NDArray[np.uint8]]:
    step = size or max(1, len(data))
    return [data[start : start + step] for start in range(0, len(data), step)]


def _joined(arrays: Iterable[NDArray[np.uint16]]) -> NDArray[np.uint16]:
    parts = list(arrays)
    return np.concatenate(parts) if parts else np.empty(0, np.uint16)
