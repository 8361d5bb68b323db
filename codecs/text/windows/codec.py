"""The codec ``windows``: text as equal-info windows or dictionary tokens, and back to the same bytes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from ....formats.errors import CorruptFile, InvalidParameter
from ....formats.header import Header
from ..block_files import BlockKind, BlockView, write_blocks
from .parameters import WindowsParams

if TYPE_CHECKING:
    from ....formats.byte_streams import ByteSink, ByteSource
    from ....formats.canonical_json import JsonObject, JsonValue
    from ....formats.reader import ContainerReader
    from ....formats.writer import ContainerWriter
    from ...protocol import Figure, Selection
    from ...run_context import RunContext
    from .scheme import Scheme

__all__ = ["NUMERIC_PROFILE", "WindowsCodec"]

NUMERIC_PROFILE = "windows-counts-1"
_BLOCK_TYPE = "WTOK"
# Inputs up to this size have it in their header, for the rate of the finished file.
_READ_AHEAD_BYTES = 16 << 20


class WindowsCodec:
    """Equal-info windows (arXiv 2404.03626) and dictionaries; see docs/windows.md for the bitstream."""

    id: ClassVar[str] = "windows"
    kind: ClassVar[str] = "bytes"
    summary: ClassVar[str] = "text as tokens for language models: equal-info windows or a dictionary, lossless"
    lossless: ClassVar[bool] = True
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = WindowsParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "windows": {"mode": "windows"},
        "dictionary": {"mode": "dictionary"},
    }
    default_preset: ClassVar[str] = "windows"
    chunk_types: ClassVar[frozenset[str]] = frozenset({_BLOCK_TYPE})
    axes: ClassVar[frozenset[str]] = frozenset({"range"})
    checks: ClassVar[frozenset[str]] = frozenset({"profile", "weights"})

    def encode(
        self, source: ByteSource, sink: ContainerWriter, params: WindowsParams, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Code the source block by block, several at once; memory stays bounded."""
        import numpy as np

        from .scheme import load_scheme  # loads numba

        scheme = load_scheme(params)
        block_bytes = params.block_kib << 10
        ahead = source.read(_READ_AHEAD_BYTES)
        whole = len(ahead) < _READ_AHEAD_BYTES
        sink.write_header(_header(scheme, len(ahead) if whole else None))
        threads = context.threads or os.cpu_count() or 1
        position = 0

        def code(block: bytes) -> tuple[int, bytes]:
            return len(block), scheme.encode(np.frombuffer(block, np.uint8)).tobytes()

        with ThreadPoolExecutor(max_workers=threads) as executor:
            pending: deque[Future[tuple[int, bytes]]] = deque()
            blocks: Iterator[bytes | None] = _blocks(ahead, source, whole, block_bytes)
            for block in chain(blocks, [None] * threads):
                if block is not None:
                    pending.append(executor.submit(code, block))
                if pending and (block is None or len(pending) > threads):
                    size, payload = pending.popleft().result()
                    sink.write_chunk(_BLOCK_TYPE, payload, span=(position, position + size), decoded_size=size)
                    position += size
                    context.report("encode", position, None, unit="bytes")
        return {"threads": threads}

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Bytes in over bytes out, and bits per byte, where the header knows the input's size (below 16 MiB)."""
        size = header.parameters.get("bytes")
        if not isinstance(size, int) or size < 1:
            return {}
        return {"ratio": size / output_bytes, "bits_per_byte": output_bytes * 8 / size}

    def decode(
        self,
        source: ContainerReader,
        sink: ByteSink,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Write the file's bytes, or those of the selected ``range``, to ``sink``.

        The setting ``model=FILE`` names the model or dictionary of a file that was not coded with the shipped one.
        """
        settings = dict(selection.settings) if selection is not None else {}
        kind = _block_kind(_scheme_of(source.header, settings))
        threads = context.threads or os.cpu_count() or 1
        write_blocks(source, sink, kind, context=context, selection=selection, threads=threads)
        return {}

    def open(self, source: ContainerReader, *, context: RunContext) -> BlockView:
        """A view with random access to byte ranges and to the tokens."""
        return BlockView(source, _block_kind(_scheme_of(source.header, {})))

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Mode and settings."""
        return dict(header.parameters)


def _header(scheme: Scheme, size: int | None) -> Header:
    params = scheme.params
    parameters: JsonObject = {"mode": params.mode}
    if params.mode == "windows":
        parameters |= {"bits": params.bits, "reset_every": params.reset_every, "delayed": params.delayed}
    if size is not None:
        parameters["bytes"] = size
    return Header(
        codec=WindowsCodec.id,
        bitstream=WindowsCodec.bitstream_version,
        parameters=parameters,
        profile=NUMERIC_PROFILE,
        weights=(scheme.digest,) if scheme.digest else (),
    )


def _scheme_of(header: Header, settings: Mapping[str, str]) -> Scheme:
    from ....formats.errors import NumericProfileMismatch
    from ...parameters import make_parameters
    from .scheme import load_scheme

    unknown = settings.keys() - {"model"}
    if unknown:
        raise InvalidParameter(f"decoding windows knows the setting model=FILE, not {', '.join(sorted(unknown))}")
    if header.profile != NUMERIC_PROFILE:
        raise NumericProfileMismatch(
            f"the file needs the numeric profile {header.profile!r}, this reader has {NUMERIC_PROFILE!r}; "
            "install the codeckit version that wrote it"
        )
    if len(header.weights) > 1:
        raise CorruptFile(f"header: {len(header.weights)} weight digests, the windows codec uses one")
    stored = {key: value for key, value in header.parameters.items() if key != "bytes"}
    strange = stored.keys() - {"mode", "bits", "reset_every", "delayed"}
    if strange:
        raise CorruptFile(f"header: the windows codec writes no parameter called {', '.join(sorted(strange))}")
    try:
        params = make_parameters(WindowsParams, {"": {}}, "", {**stored, **settings})
    except InvalidParameter as error:
        raise CorruptFile(f"header: {error}") from error
    return load_scheme(params, expected=header.weights[0] if header.weights else "")


def _blocks(ahead: bytes, source: ByteSource, whole: bool, block_bytes: int) -> Iterator[bytes]:
    """The input in blocks of ``block_bytes``, of which ``ahead`` has been read."""
    position = 0
    while position + block_bytes <= len(ahead):
        yield ahead[position : position + block_bytes]
        position += block_bytes
    rest = ahead[position:]
    while not whole:
        block = rest + source.read(block_bytes - len(rest))
        rest = b""
        if not block:
            return
        yield block
    if rest:
        yield rest


def _block_kind(scheme: Scheme) -> BlockKind:
    import numpy as np

    from .scheme import MOST_BLOCK_BYTES

    def decode(payload: bytes, size: int, where: str) -> bytes:
        return scheme.decode(np.frombuffer(payload, np.uint8), size, where).tobytes()

    return BlockKind(chunk_type=_BLOCK_TYPE, most_bytes=MOST_BLOCK_BYTES, decode=decode)
