"""HNeRV's files as its paper counts them, 8-bit weights and 6-bit embeddings under one Huffman code, but real.

The same quantised integers as in an ``hnerv`` file, in the same container with the same header; only the entropy coding
differs. What the paper leaves out is there, because a decoder needs it: the code itself, shapes, timing.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..codecs.video.bitstream import joined_symbols, joined_tensors, pack_bounds, unpack_bounds
from ..codecs.video.frame_decoder import parameter_shapes
from ..codecs.video.hnerv_structure import Structure
from ..codecs.video.network_file import EMBEDDINGS, NetworkHeader, read_content
from ..formats.atomic_file import AtomicFile
from ..formats.errors import CorruptFile
from ..formats.header import Header
from ..formats.reader import ContainerReader
from ..formats.writer import ContainerWriter
from .huffman import decode_huffman, encode_huffman

if TYPE_CHECKING:
    from ..codecs.video.quantiser import QuantisedTensor

__all__ = ["HUFFMAN", "read_huffman_file", "write_huffman_file"]

HUFFMAN = "hnerv-huffman"
_CHUNK = "HUFF"


def write_huffman_file(hnerv_file: Path, target: Path) -> None:
    """Code the integers of ``hnerv_file`` anew; raises :class:`CorruptFile` where they do not come back exactly."""
    tensors = _tensors(hnerv_file)
    with ContainerReader(hnerv_file) as reader:
        header = reader.header
        others = [chunk for chunk in reader.chunks() if chunk.type not in ("WGTS", EMBEDDINGS)]
    with AtomicFile(target, overwrite=True) as file:
        writer = ContainerWriter(file)
        writer.write_header(Header(codec=HUFFMAN, bitstream=1, parameters=header.parameters))
        payload = pack_bounds(tensors) + encode_huffman(joined_symbols(tensors))
        writer.write_chunk(_CHUNK, payload, span=(0, int(str(header.parameters["frames"]))))
        for chunk in others:
            writer.write_chunk(chunk.type, chunk.payload, span=chunk.span or ())
        writer.finish()
        file.commit()
    for wanted, found in zip(tensors, read_huffman_file(target), strict=True):
        if not (wanted.symbols == found.symbols).all() or wanted.axis != found.axis:
            raise CorruptFile(f"{target} does not hold the integers of {hnerv_file}")


def read_huffman_file(path: Path) -> list[QuantisedTensor]:
    """The quantised parameters, and the embeddings as last tensor; raises :class:`CorruptFile`."""
    with ContainerReader(path) as reader:
        if reader.header.codec != HUFFMAN:
            raise CorruptFile(f"{path} is a file of {reader.header.codec}, not of {HUFFMAN}")
        clip = NetworkHeader.of(reader.header, Structure.from_json)
        (payload,) = (chunk.payload for chunk in reader.chunks() if chunk.type == _CHUNK)
    shapes = [*parameter_shapes(clip.structure).values(), (clip.frames, *clip.structure.embedding_shape)]
    bounds, position = unpack_bounds(payload, shapes, what=f"{_CHUNK} chunk")
    symbols = decode_huffman(payload[position:], sum(math.prod(shape) for shape in shapes))
    return joined_tensors(symbols, bounds, shapes)


def _tensors(hnerv_file: Path) -> list[QuantisedTensor]:
    with ContainerReader(hnerv_file) as reader:
        content = read_content(NetworkHeader.of(reader.header, Structure.from_json), reader.chunks())
    if content.embeddings is None:
        raise CorruptFile(f"{hnerv_file} holds no embeddings")
    return [*content.parameters, content.embeddings]
