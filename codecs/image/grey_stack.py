"""Reading and writing the chunks of a ``pc-grey`` file."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from ...formats.checksums import checksum64
from ...formats.errors import (
    ChecksumMismatch,
    CorruptFile,
    InvalidParameter,
    NumericProfileMismatch,
    UnsupportedInput,
)
from ...formats.header import Header
from ..parameters import Range
from ..protocol import Figure
from .circuit_coding import LANE_IMAGES, decode_lane, encode_lane
from .grey_codec import PcGreyCodec, StackHeader
from .integer_circuit import PROFILE, IntegerCircuit, load_circuit
from .packaged_weights import packaged_circuit_path
from .worker_threads import worker_count

if TYPE_CHECKING:
    from ...formats.image_stacks import ImageStack
    from ...formats.reader import ContainerReader
    from ...formats.writer import ContainerWriter
    from ..run_context import RunContext

__all__ = ["GreyStackReader", "decode_stack", "encode_stack"]

_CIRCUIT = 0
_LZMA = 1
_HASH_BYTES = 8
_HOPE = 1.5
"""LZMA is tried where deflate needs at most this many times the circuit's bytes."""


class GreyStackReader:
    """Random access to the images of a file; ``images[i]`` and ``images[a:b]`` decode the lanes they lie in."""

    def __init__(self, source: ContainerReader, context: RunContext) -> None:
        self._source = source
        self._stack = StackHeader.from_header(source.header)
        self._circuit = _circuit_of(source.header, "")
        self._threads = worker_count(context)
        self.images = self

    def __len__(self) -> int:
        return self._stack.count

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> NDArray[np.uint8]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1 or stop <= start:
                return np.stack([self[number] for number in range(start, stop, step)])
            return _selected(self._source, self._stack, self._circuit, start, stop, self._threads)
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image: NDArray[np.uint8] = self[number : number + 1][0]
        return image


def encode_stack(stack: ImageStack, sink: ContainerWriter, model: str, context: RunContext) -> Mapping[str, Figure]:
    """Write header and chunks of ``stack``."""
    circuit = _circuit(model)
    count, height, width = stack.images.shape
    if (height, width) != (circuit.height, circuit.width):
        raise UnsupportedInput(
            f"the model is for images of {circuit.width}x{circuit.height} pixels, these have {width}x{height}; "
            "train one with `codec train image` and pass model=FILE, or use the codec pc"
        )
    parameters: dict[str, Any] = {"count": count, "height": height, "width": width}
    sink.write_header(
        Header(
            codec=PcGreyCodec.id,
            bitstream=PcGreyCodec.bitstream_version,
            parameters=parameters,
            profile=PROFILE,
            weights=(circuit.digest,),
        )
    )
    spans = [(start, min(start + LANE_IMAGES, count)) for start in range(0, count, LANE_IMAGES)]
    plain_lanes = 0

    def encoded(span: tuple[int, int]) -> bytes:
        return _encoded_lane(circuit, stack.images[span[0] : span[1]])

    for done, (span, payload) in enumerate(_in_order(encoded, spans, worker_count(context))):
        plain_lanes += payload[0] != _CIRCUIT
        size = (span[1] - span[0]) * height * width
        sink.write_chunk("LANE", payload, span=span, decoded_size=size)
        context.report("encode", done + 1, len(spans), unit="lanes")
    # after the lanes, so that a lane's sequence number is its place in the stack whatever is lost
    if stack.names:
        names = lzma.compress(json.dumps(list(stack.names)).encode(), lzma.FORMAT_ALONE)
        sink.write_chunk("NAME", names)
    return {"images": count, "fallback_lanes": plain_lanes}


def decode_stack(
    source: ContainerReader, sink: Any, settings: Mapping[str, str], context: RunContext
) -> Mapping[str, Figure]:
    """Decode to ``sink.write_stack``; ``settings`` may name ``images`` and ``model``."""
    stack = StackHeader.from_header(source.header)
    circuit = _circuit_of(source.header, settings.get("model", ""))
    context.limits.check("max_output_bytes", stack.pixels, "the stack")
    context.limits.check("max_memory_bytes", stack.pixels, "the stack")
    if "images" in settings:
        chosen = Range.parse(settings["images"])
        stop = stack.count if chosen.stop is None else chosen.stop
        if not chosen.start < stop <= stack.count:
            raise InvalidParameter(f"images={chosen} is not within 0:{stack.count}")
        images = _selected(source, stack, circuit, chosen.start, stop, worker_count(context))
        names: Sequence[str] = _names(source, stack)[chosen.start : stop]
    else:
        images, names = _everything(source, stack, circuit, context)
    sink.write_stack(images, names)
    return {"images": len(images)}


def _everything(
    source: ContainerReader, stack: StackHeader, circuit: IntegerCircuit, context: RunContext
) -> tuple[NDArray[np.uint8], Sequence[str]]:
    """All images and names, reading the file front to back."""
    names: list[Sequence[str]] = []
    images = np.zeros((stack.count, stack.height, stack.width), np.uint8)
    covered = 0

    def lanes() -> Iterator[tuple[int, bytes]]:
        for chunk in source.chunks():
            if chunk.type == "NAME":
                names.append(_parsed_names(chunk.payload, stack.count))
            elif chunk.type == "LANE":
                yield chunk.sequence * LANE_IMAGES, chunk.payload

    def decoded(lane: tuple[int, bytes]) -> NDArray[np.uint8]:
        start, payload = lane
        return _decoded_lane(circuit, stack, payload, start)

    for (start, _), part in _in_order(decoded, lanes(), worker_count(context)):
        images[start : start + len(part)] = part
        covered += len(part)
        context.report("decode", covered, stack.count, unit="images")
    if covered != stack.count:
        if not source.recover:
            raise CorruptFile(f"the lanes hold {covered} of {stack.count} images")
        context.warning(f"{stack.count - covered} images are lost and were left black")
    return images, names[0] if names else ()


def _selected(
    source: ContainerReader, stack: StackHeader, circuit: IntegerCircuit, start: int, stop: int, threads: int
) -> NDArray[np.uint8]:
    """Images ``start:stop`` through the index."""
    wanted = [
        entry
        for entry in source.index()
        if entry.type == "LANE" and len(entry.span) == 2 and entry.span[0] < stop and entry.span[1] > start
    ]
    lanes = [(entry.span[0], source.read(entry)) for entry in wanted]
    if not lanes or lanes[0][0] > start:
        raise CorruptFile(f"no lane holds image {start}")

    def decoded(lane: tuple[int, bytes]) -> NDArray[np.uint8]:
        return _decoded_lane(circuit, stack, lane[1], lane[0])

    parts = [part for _, part in _in_order(decoded, lanes, threads)]
    first = lanes[0][0]
    images: NDArray[np.uint8] = np.concatenate(parts)[start - first : stop - first]
    if len(images) != stop - start:
        raise CorruptFile(f"the lanes do not hold images {start}:{stop}")
    return images


def _encoded_lane(circuit: IntegerCircuit, images: NDArray[np.uint8]) -> bytes:
    """The smaller of the circuit's stream and plain LZMA, after its mode and the hash of the pixels."""
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    body = encode_lane(circuit, flat)
    mode = _CIRCUIT
    # LZMA takes a quarter of the time of an encode: it is tried where deflate, which is quick, comes near
    if len(zlib.compress(flat.tobytes(), 1)) < _HOPE * len(body):
        plain = lzma.compress(flat.tobytes(), lzma.FORMAT_ALONE)
        if len(plain) < len(body):
            mode, body = _LZMA, plain
    return bytes([mode]) + checksum64(flat.tobytes()).to_bytes(_HASH_BYTES, "little") + body


def _decoded_lane(circuit: IntegerCircuit, stack: StackHeader, payload: bytes, start: int) -> NDArray[np.uint8]:
    count = min(LANE_IMAGES, stack.count - start)
    size = count * stack.height * stack.width
    if count <= 0 or len(payload) < 1 + _HASH_BYTES:
        raise CorruptFile(f"lane at image {start}: it does not fit a stack of {stack.count} images")
    mode, body = payload[0], payload[1 + _HASH_BYTES :]
    if mode == _CIRCUIT:
        flat = decode_lane(circuit, body, count)
    elif mode == _LZMA:
        plain = _unpacked(body, size, f"lane at image {start}")
        flat = np.frombuffer(plain, np.uint8).reshape(count, -1)
    else:
        raise CorruptFile(f"lane at image {start}: unknown mode {mode}")
    if flat.size != size:
        raise CorruptFile(f"lane at image {start}: the model's images are not {stack.height} x {stack.width}")
    if checksum64(flat.tobytes()).to_bytes(_HASH_BYTES, "little") != payload[1 : 1 + _HASH_BYTES]:
        raise ChecksumMismatch(f"lane at image {start}: decoded pixels differ from those encoded")
    return flat.reshape(count, stack.height, stack.width)


def _unpacked(data: bytes, size: int, what: str) -> bytes:
    """LZMA data that unpacks to exactly ``size`` bytes."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE)
    try:
        plain = decompressor.decompress(data, size + 1)
    except lzma.LZMAError as error:
        raise CorruptFile(f"{what}: {error}") from error
    if len(plain) != size:
        raise CorruptFile(f"{what}: it does not unpack to {size:,} bytes")
    return plain


def _circuit_of(header: Header, model: str) -> IntegerCircuit:
    """The circuit a file needs, checked against the digest the file names."""
    if header.profile != PROFILE:
        raise NumericProfileMismatch(
            f"the file needs the numeric profile {header.profile}, this version has {PROFILE}; upgrade codeckit"
        )
    circuit = _circuit(model)
    if header.weights != (circuit.digest,):
        raise NumericProfileMismatch(
            f"the file needs circuit weights {header.weights[0][:16]}..., "
            f"{model or 'the packaged ones'} are {circuit.digest[:16]}...; pass the right ones as model=FILE"
        )
    return circuit


def _circuit(model: str) -> IntegerCircuit:
    return load_circuit(Path(model)) if model else _packaged_circuit()


@cache
def _packaged_circuit() -> IntegerCircuit:
    return load_circuit(packaged_circuit_path())


def _names(source: ContainerReader, stack: StackHeader) -> Sequence[str]:
    for entry in source.index():
        if entry.type == "NAME":
            return _parsed_names(source.read(entry), stack.count)
    return ()


def _parsed_names(payload: bytes, count: int) -> Sequence[str]:
    limit = 4096 * count
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE)
    try:
        names = json.loads(decompressor.decompress(payload, limit))
    except (lzma.LZMAError, ValueError, RecursionError) as error:
        raise CorruptFile(f"names of the images: {error}") from error
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise CorruptFile(f"names of the images: not a list of {count} strings")
    return names


def _in_order(work: Any, items: Any, threads: int) -> Iterator[tuple[Any, Any]]:
    """``(item, work(item))`` in order, with at most two jobs per thread under way."""
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        pending = [(item, pool.submit(work, item)) for item in islice(remaining, 2 * threads)]
        while pending:
            item, job = pending.pop(0)
            yield item, job.result()
            pending += [(item, pool.submit(work, item)) for item in islice(remaining, 1)]
