"""What an HNeRV file holds: its header, and its chunks WGTS, EMBD, TIME and audi."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile
from ...formats.header import Header
from ...formats.media_properties import VideoProperties
from .hnerv_structure import Structure
from .timing import Timing, unpack_differences

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...formats.canonical_json import JsonObject, JsonValue
    from ...formats.chunk import Chunk
    from ...formats.limits import Limits
    from ...formats.media_audio import AudioTrack
    from .quantiser import QuantisedTensor

__all__ = ["AUDIO", "EMBEDDINGS", "TIMES", "WEIGHTS", "ClipHeader", "Content", "read_content"]

WEIGHTS, EMBEDDINGS, TIMES, AUDIO = "WGTS", "EMBD", "TIME", "audi"
_FIELDS = {"bits", "clip", "frames", "height", "network", "timing", "width"}
_BYTES_PER_VALUE = 16  # symbols as int64 and float32 while a chunk is unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipHeader:
    """The header parameters of an HNeRV file."""

    frames: int
    properties: VideoProperties
    timing: Timing
    structure: Structure
    weight_bits: int = 8
    embedding_bits: int = 6

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last."""
        return (self.timing.end - self.timing.start) * self.properties.time_base

    @property
    def embedding_shape(self) -> tuple[int, int, int, int]:
        """[frames, channels, rows, columns]."""
        structure = self.structure
        return self.frames, structure.embedding, structure.rows, structure.columns

    def as_json(self) -> JsonObject:
        """For :class:`Header`."""
        bits: list[JsonValue] = [self.weight_bits, self.embedding_bits]
        return {
            "bits": bits,
            "clip": self.properties.as_json(),
            "frames": self.frames,
            "height": self.properties.height,
            "network": self.structure.as_json(),
            "timing": self.timing.as_json(),
            "width": self.properties.width,
        }

    @classmethod
    def of(cls, header: Header) -> ClipHeader:
        """Parse a file's header; raises :class:`CorruptFile`."""
        value = header.parameters
        if value.keys() != _FIELDS:
            raise CorruptFile(f"header: expected the fields {sorted(_FIELDS)}, got {sorted(value)}")
        frames, width, height = (_count(value, name) for name in ("frames", "width", "height"))
        bits = value["bits"]
        if bits != [8, 6]:
            raise CorruptFile(f"header: {bits!r} are not the bits per weight and embedding of this version, [8, 6]")
        structure = Structure.from_json(value["network"])
        total_height, total_width = structure.picture
        if height > total_height or width > total_width:
            raise CorruptFile(
                f"header: pictures of {width}x{height} from a network that makes {total_width}x{total_height}"
            )
        return cls(
            frames=frames,
            properties=VideoProperties.from_json(value["clip"], width=width, height=height),
            timing=Timing.from_json(value["timing"]),
            structure=structure,
        )

    def check(self, limits: Limits) -> None:
        """Raise :class:`LimitExceeded` when the file asks for too much, before anything is allocated."""
        width, height = self.properties.width, self.properties.height
        limits.check("max_frames", self.frames, "the clip's length in frames")
        limits.check("max_dimension", max(self.structure.picture), "the network's picture")
        limits.check("max_pixels", self.structure.picture[0] * self.structure.picture[1], "the network's picture")
        limits.check("max_output_bytes", self.frames * width * height * 3, "the decoded clip")
        values = self.structure.decoder_parameters + self.frames * self.structure.values_per_frame
        limits.check("max_memory_bytes", values * _BYTES_PER_VALUE, "the network with its embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The chunks of a file, unpacked into integers."""

    parameters: list[QuantisedTensor]
    embeddings: QuantisedTensor
    timestamps: tuple[int, ...]
    audio: list[AudioTrack]


def read_content(clip: ClipHeader, chunks: Iterable[Chunk]) -> Content:
    """Unpack every chunk of a file; raises :class:`CorruptFile` when one is missing, doubled or malformed."""
    from ...formats.media_audio import AudioTrack
    from .bitstream import unpack_tensors
    from .hnerv_network import parameter_shapes

    payloads: dict[str, bytes] = {}
    audio = []
    for chunk in chunks:
        if chunk.type == AUDIO:
            audio.append(AudioTrack.from_bytes(chunk.payload))
        elif chunk.type in (WEIGHTS, EMBEDDINGS, TIMES):
            if chunk.type in payloads:
                raise CorruptFile(f"chunk {chunk.sequence} at byte {chunk.offset}: a second {chunk.type}")
            payloads[chunk.type] = chunk.payload
    wanted = {WEIGHTS, EMBEDDINGS} | ({TIMES} if clip.timing.step == 0 else set())
    if payloads.keys() != wanted:
        found = ", ".join(sorted(payloads)) or "none"
        raise CorruptFile(f"the file should hold the chunks {', '.join(sorted(wanted))} and has {found}")
    shapes = list(parameter_shapes(clip.structure).values())
    parameters = unpack_tensors(payloads[WEIGHTS], shapes, bits=clip.weight_bits, what=f"{WEIGHTS} chunk")
    (embeddings,) = unpack_tensors(
        payloads[EMBEDDINGS], [clip.embedding_shape], bits=clip.embedding_bits, what=f"{EMBEDDINGS} chunk"
    )
    if TIMES in payloads:
        timestamps = unpack_differences(payloads[TIMES], clip.timing, clip.frames)
    else:
        timestamps = clip.timing.regular(clip.frames)
    return Content(parameters=parameters, embeddings=embeddings, timestamps=timestamps, audio=audio)


def _count(value: JsonObject, name: str) -> int:
    number = value[name]
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise CorruptFile(f"header: {name} is {number!r}, not a positive integer")
    return number
