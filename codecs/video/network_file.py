"""What the file of a fitted network holds: its header, and its chunks WGTS, EMBD, TIME and audi."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from ...formats.errors import CorruptFile
from .clip_header import AUDIO, TIMES, VideoHeader, clip_fields
from .network_structure import NetworkStructure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...formats.canonical_json import JsonObject, JsonValue
    from ...formats.chunk import Chunk
    from ...formats.header import Header
    from ...formats.limits import Limits
    from ...formats.media_audio import AudioTrack
    from .quantiser import QuantisedTensor

__all__ = ["AUDIO", "EMBEDDINGS", "TIMES", "WEIGHTS", "Content", "NetworkHeader", "read_content"]

S = TypeVar("S", bound=NetworkStructure)

WEIGHTS, EMBEDDINGS = "WGTS", "EMBD"
_BYTES_PER_VALUE = 16  # symbols as int64 and float32 while a chunk is unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkHeader(VideoHeader, Generic[S]):
    """The header parameters of a file that is a network of structure ``S``."""

    structure: S
    weight_bits: int = 8
    embedding_bits: int = 6

    @property
    def embeddings_shape(self) -> tuple[int, int, int, int] | None:
        """[frames, channels, rows, columns], None where no embeddings are stored."""
        shape = self.structure.embedding_shape
        return None if shape is None else (self.frames, *shape)

    def as_json(self) -> JsonObject:
        """For :class:`Header`."""
        bits: list[JsonValue] = [self.weight_bits, self.embedding_bits]
        return {**self.clip_json(), "bits": bits, "network": self.structure.as_json()}

    @classmethod
    def of(cls, header: Header, parse_structure: Callable[[JsonValue], S]) -> Self:
        """Parse a file's header; raises :class:`CorruptFile`."""
        value = header.parameters
        fields = clip_fields(value, frozenset({"bits", "network"}))
        bits = value["bits"]
        if bits != [8, 6]:
            raise CorruptFile(f"header: {bits!r} are not the bits per weight and embedding of this version, [8, 6]")
        clip = cls(**fields, structure=parse_structure(value["network"]))
        total_height, total_width = clip.structure.picture
        if clip.properties.height > total_height or clip.properties.width > total_width:
            raise CorruptFile(
                f"header: pictures of {clip.properties.width}x{clip.properties.height} from a network that makes "
                f"{total_width}x{total_height}"
            )
        return clip

    def check(self, limits: Limits) -> None:
        """Raise :class:`LimitExceeded` when the file asks for too much, before anything is allocated."""
        self.check_clip(limits)
        limits.check("max_dimension", max(self.structure.picture), "the network's picture")
        limits.check("max_pixels", self.structure.picture[0] * self.structure.picture[1], "the network's picture")
        values = self.structure.decoder_parameters + math.prod(self.embeddings_shape or (0,))
        limits.check("max_memory_bytes", values * _BYTES_PER_VALUE, "the network with its embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The chunks of a file, unpacked into integers."""

    parameters: list[QuantisedTensor]
    embeddings: QuantisedTensor | None
    timestamps: tuple[int, ...]
    audio: list[AudioTrack]


def read_content(clip: NetworkHeader[S], chunks: Iterable[Chunk]) -> Content:
    """Unpack every chunk of a file; raises :class:`CorruptFile` when one is missing, doubled or malformed."""
    from ...formats.media_audio import AudioTrack
    from .bitstream import unpack_tensors
    from .frame_decoder import parameter_shapes

    payloads: dict[str, bytes] = {}
    audio = []
    for chunk in chunks:
        if chunk.type == AUDIO:
            audio.append(AudioTrack.from_bytes(chunk.payload))
        elif chunk.type in (WEIGHTS, EMBEDDINGS, TIMES):
            if chunk.type in payloads:
                raise CorruptFile(f"chunk {chunk.sequence} at byte {chunk.offset}: a second {chunk.type}")
            payloads[chunk.type] = chunk.payload
    shape = clip.embeddings_shape
    wanted = {WEIGHTS} | (set() if shape is None else {EMBEDDINGS}) | ({TIMES} if clip.timing.step == 0 else set())
    if payloads.keys() != wanted:
        found = ", ".join(sorted(payloads)) or "none"
        raise CorruptFile(f"the file should hold the chunks {', '.join(sorted(wanted))} and has {found}")
    shapes = list(parameter_shapes(clip.structure).values())
    parameters = unpack_tensors(payloads[WEIGHTS], shapes, bits=clip.weight_bits, what=f"{WEIGHTS} chunk")
    embeddings = None
    if shape is not None:
        what = f"{EMBEDDINGS} chunk"
        (embeddings,) = unpack_tensors(payloads[EMBEDDINGS], [shape], bits=clip.embedding_bits, what=what)
    timestamps = clip.timestamps(payloads.get(TIMES))
    return Content(parameters=parameters, embeddings=embeddings, timestamps=timestamps, audio=audio)
