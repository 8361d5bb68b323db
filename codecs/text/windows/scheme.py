"""A way of turning blocks of bytes into tokens, ready to run: settings with the model or dictionary they need."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....formats.errors import CorruptFile, NumericProfileMismatch
from .arithmetic_coding import decode_arithmetic, encode_arithmetic
from .context_model import ContextModel
from .model_file import load_model
from .parameters import WindowsParams
from .shipped_files import dictionary_path, model_path, read_file, window_strings_path
from .string_file import Dictionary, dictionary_bytes, load_dictionary, parse_dictionary
from .string_trie import parse_fewest, parse_longest
from .strings import expand
from .window_coding import WindowRule, decode_windows, encode_windows
from .window_dictionary import window_dictionary

__all__ = ["MOST_BLOCK_BYTES", "Scheme", "load_scheme"]

MOST_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Settings with what they need; ``digest`` is the SHA-256 (hex) of the model or dictionary file, "" for none."""

    params: WindowsParams
    model: ContextModel | None
    dictionary: Dictionary | None
    digest: str

    @property
    def rule(self) -> WindowRule:
        """The rule of the windows."""
        params = self.params
        return WindowRule(
            bits=params.bits, reset_every=params.reset_every, delayed=params.delayed, fewest=params.takes_fewest
        )

    def encode(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The tokens of a block as bytes."""
        if self.dictionary is not None:
            return self.tokens(data).astype("<u2").view(np.uint8)
        if self.model is None:
            return np.frombuffer(zlib.compress(data.tobytes(), 9), np.uint8)
        if self.params.mode == "windows":
            return encode_windows(data, self.model, self.rule).reshape(-1)
        return encode_arithmetic(data, self.model, static=self.params.mode == "static")

    def decode(self, payload: NDArray[np.uint8], size: int | None, where: str) -> NDArray[np.uint8]:
        """The ``size`` bytes that the bytes of a block's tokens stand for; None: as many as there are.

        Delayed windows and arithmetic codes do not say how many there are.

        Raises :class:`CorruptFile` for tokens no encoder makes.
        """
        if not payload.size and not size:
            return np.empty(0, np.uint8)
        if self.dictionary is not None:
            if payload.size % 2:
                raise CorruptFile(f"{where}: {payload.size:,} bytes are no whole number of 16-bit tokens")
            data = expand(payload.view("<u2"), self.dictionary.table, where=where)
            if size is not None and len(data) != size:
                raise CorruptFile(f"{where}: the tokens stand for {len(data):,} bytes, {size:,} were promised")
            return data
        if self.model is None:
            return _inflate(payload.tobytes(), size, where)
        if self.params.mode == "windows":
            width = self.params.bits // 8
            if payload.size % width:
                raise CorruptFile(f"{where}: {payload.size:,} bytes are no whole number of {8 * width}-bit windows")
            return decode_windows(payload.reshape(-1, width), size, self.model, self.rule, where=where)
        if size is None:
            raise ValueError("an arithmetic code does not say how many bytes it holds")
        return decode_arithmetic(payload, size, self.model, static=self.params.mode == "static", where=where)

    def tokens(self, data: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """The ids of a block's strings, for schemes that have a dictionary."""
        if self.dictionary is None:
            raise ValueError("only dictionaries have strings")
        parse = parse_fewest if self.params.takes_fewest else parse_longest
        return parse(data, self.dictionary.trie).astype(np.uint16)


def load_scheme(params: WindowsParams, *, expected: str | None = None) -> Scheme:
    """Load what ``params`` need; ``expected`` is the digest a file asks for.

    Raises:
        NumericProfileMismatch: the model here is not the one the file was coded with.
        ExternalFailure: the model's file is missing.
        CorruptFile: the model's file is not a model.
    """
    path = None if params.model is None else Path(params.model)
    model: ContextModel | None = None
    dictionary: Dictionary | None = None
    digest = ""
    if params.mode == "dictionary":
        dictionary = load_dictionary(path or dictionary_path())
        digest = dictionary.sha256
    elif params.is_window_dictionary and path is None:
        dictionary = load_dictionary(window_strings_path())
        digest = dictionary.source
    elif params.mode != "gzip":
        place = path or model_path()
        content, digest = read_file(place)
        model = load_model(content, digest, str(place)).contexts
        if params.is_window_dictionary:
            strings = window_dictionary(model).strings()[1:]
            dictionary = parse_dictionary(dictionary_bytes(strings, digest), digest, str(place))
    if expected is not None and digest != expected:
        raise NumericProfileMismatch(
            f"the file was coded with the model {expected[:16] or 'none'}..., this one is {digest[:16] or 'none'}...; "
            "pass the file of the right model as the setting model=FILE, or install the codeckit that wrote the file"
        )
    return Scheme(params=params, model=model, dictionary=dictionary, digest=digest)


def _inflate(payload: bytes, size: int | None, where: str) -> NDArray[np.uint8]:
    decompressor = zlib.decompressobj()
    most = 1032 * len(payload) if size is None else size  # deflate reaches no higher ratio
    try:
        data = decompressor.decompress(payload, most + 1)
    except zlib.error as error:
        raise CorruptFile(f"{where}: not a zlib stream ({error})") from error
    if (size is not None and len(data) != size) or not decompressor.eof or decompressor.unused_data:
        raise CorruptFile(f"{where}: the zlib stream does not hold the text it promises")
    return np.frombuffer(data, np.uint8)
