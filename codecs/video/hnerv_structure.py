"""The shape of an HNeRV network: strides, channel widths and kernels, from a size in parameters.

Follows section 3 of "HNeRV: A Hybrid Neural Representation for Videos" (arXiv 2304.02633) and its published code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...formats.canonical_json import JsonValue
    from .frame_decoder import FrameDecoder
    from .network_structure import NetworkStructure

__all__ = ["Structure", "choose_strides", "make_structure", "network_summary", "padded_size", "positive_integers"]

FIRST_KERNEL, LARGEST_KERNEL = 1, 5
_MAX_STAGES = 8
_MAX_WIDTH = 1 << 13
_MAX_STRIDE = 16

# From a whole UVG picture down to single pixels, largest stage first as published. Small pictures get three stages:
# they learn faster, and a short fit is less likely to stay with the mean picture.
_STRIDES = (
    (5, 4, 4, 3, 2),
    (5, 4, 3, 3, 2),
    (5, 4, 4, 2, 2),
    (5, 4, 3, 2, 2),
    (5, 3, 3, 2, 2),
    (5, 4, 2, 2, 2),
    (5, 3, 2, 2, 2),
    (4, 3, 2, 2, 2),
    (5, 4, 4),
    (4, 4, 4),
    (5, 4, 3),
    (4, 4, 3),
    (5, 4, 2),
    (4, 4, 2),
    (4, 3, 2),
    (5, 4),
    (4, 4),
    (4, 3),
    (4, 2),
    (2, 2),
    (2,),
)
_ROWS_WANTED = 2  # rows of the embedding grid in the paper, 2 x 4 for pictures of 640 x 1280


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """A decoder network for embeddings of ``embedding`` channels on a grid of ``rows`` x ``columns``.

    ``widths`` has one entry more than ``strides``: the channels after the 1x1 stem and after every stage.
    """

    rows: int
    columns: int
    embedding: int
    strides: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def kernels(self) -> tuple[int, ...]:
        """The kernel of each stage: 1, 3, 5, 5, ..."""
        return tuple(min(FIRST_KERNEL + 2 * i, LARGEST_KERNEL) for i in range(len(self.strides)))

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of the pictures the network makes, padding included."""
        total = math.prod(self.strides)
        return self.rows * total, self.columns * total

    @property
    def decoder_parameters(self) -> int:
        """Number of weights and biases of the decoder."""
        count = (self.embedding + 1) * self.widths[0]
        stages = zip(pairwise(self.widths), self.strides, self.kernels, strict=True)
        for (before, after), stride, kernel in stages:
            count += (before * kernel**2 + 1) * after * stride**2
        return count + (self.widths[-1] * 9 + 1) * 3

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """[channels, rows, columns] of a frame's embedding."""
        return self.embedding, self.rows, self.columns

    @property
    def macs_per_frame(self) -> int:
        """Multiplications of the decoder for one frame."""
        pixels = self.rows * self.columns
        count = pixels * self.embedding * self.widths[0]
        stages = zip(pairwise(self.widths), self.strides, self.kernels, strict=True)
        for (before, after), stride, kernel in stages:
            count += pixels * before * kernel**2 * after * stride**2
            pixels *= stride**2
        return count + pixels * self.widths[-1] * 27

    def as_json(self) -> dict[str, JsonValue]:
        """For a file header."""
        return {
            "columns": self.columns,
            "embedding": self.embedding,
            "rows": self.rows,
            "strides": list(self.strides),
            "widths": list(self.widths),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Structure:
        """Parse what :meth:`as_json` wrote; raises :class:`CorruptFile` for anything else."""
        if not isinstance(value, dict) or value.keys() != {"columns", "embedding", "rows", "strides", "widths"}:
            raise CorruptFile("header: the network's structure has missing or unknown fields")
        strides = positive_integers(value["strides"], 1, _MAX_STAGES, _MAX_STRIDE)
        return cls(
            rows=positive_integers([value["rows"]], 1, 1, 1 << 16)[0],
            columns=positive_integers([value["columns"]], 1, 1, 1 << 16)[0],
            embedding=positive_integers([value["embedding"]], 1, 1, _MAX_WIDTH)[0],
            strides=strides,
            widths=positive_integers(value["widths"], len(strides) + 1, len(strides) + 1, _MAX_WIDTH),
        )

    def summary(self) -> Mapping[str, JsonValue]:
        """What a person wants to know about the network."""
        return network_summary(self, widths=self.widths, strides=self.strides)

    def make_decoder(self) -> FrameDecoder:
        """The network with fresh weights."""
        from .hnerv_network import Decoder  # torch

        return Decoder(self)


def make_structure(
    *,
    width: int,
    height: int,
    frames: int,
    strides: Sequence[int],
    model_size: float,
    embedding: int = 16,
    reduce: float = 1.2,
    lower_width: int = 12,
) -> Structure:
    """The structure whose decoder and embeddings together have about ``model_size`` million parameters.

    The first width is the positive root of the published quadratic: stage ``i`` costs
    ``width**2 / reduce**(2i+1) * stride**2 * kernel**2``, the stem ``9 * embedding * width``.

    Raises :class:`InvalidParameter` when the embeddings alone exceed the size.
    """
    padded_height, padded_width = padded_size(height, width, strides)
    total = math.prod(strides)
    rows, columns = padded_height // total, padded_width // total
    embeddings = embedding * rows * columns * frames
    available = model_size * 1e6 - embeddings
    kernels = [min(FIRST_KERNEL + 2 * i, LARGEST_KERNEL) for i in range(len(strides))]
    squares = zip(strides, kernels, strict=True)
    a = sum((s * k) ** 2 / reduce ** (2 * i + 1) for i, (s, k) in enumerate(squares))
    b = 9.0 * embedding
    first = int((math.sqrt(b * b + 4 * a * available) - b) / (2 * a)) if available > 0 else 0
    if first < 1:
        raise InvalidParameter(
            f"model_size={model_size:g} million parameters is too small: the embeddings of {frames} frames alone are "
            f"{embeddings / 1e6:.3f} million; raise model_size, or choose larger strides or fewer frames"
        )
    widths = [first]
    for _ in strides:
        widths.append(max(round(widths[-1] / reduce), lower_width))
    return Structure(rows=rows, columns=columns, embedding=embedding, strides=tuple(strides), widths=tuple(widths))


def padded_size(height: int, width: int, strides: Sequence[int]) -> tuple[int, int]:
    """Height and width rounded up to whole steps of the network's total stride."""
    total = math.prod(strides)
    return -(-height // total) * total, -(-width // total) * total


def choose_strides(height: int, width: int) -> tuple[int, ...]:
    """Published-style strides for a picture size: little padding, an embedding grid about two rows high.

    640 x 1280 gives the paper's 5, 4, 4, 2, 2.
    """

    def cost(strides: tuple[int, ...]) -> float:
        padded_height, padded_width = padded_size(height, width, strides)
        padding = padded_height * padded_width / (height * width) - 1
        rows = min(padded_height, padded_width) / math.prod(strides)
        return 6 * padding + abs(math.log2(rows / _ROWS_WANTED))

    return min(_STRIDES, key=cost)


def network_summary(
    structure: NetworkStructure, *, widths: Sequence[int], strides: Sequence[int]
) -> Mapping[str, JsonValue]:
    """Widths, strides, size and work of a network."""
    return {
        "network": " ".join(str(width) for width in widths),
        "strides": " ".join(str(stride) for stride in strides),
        "decoder_parameters": structure.decoder_parameters,
        "kilo_macs_per_pixel": structure.macs_per_frame // math.prod(structure.picture) // 1000,
    }


def positive_integers(value: JsonValue, least: int, most: int, high: int, *, least_value: int = 1) -> tuple[int, ...]:
    """``value`` as ``least`` to ``most`` integers from ``least_value`` to ``high``; raises :class:`CorruptFile`."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise CorruptFile(f"header: {value!r} is not a list of {least} to {most} integers")
    result = [item for item in value if isinstance(item, int) and not isinstance(item, bool)]
    if len(result) != len(value) or not all(least_value <= item <= high for item in result):
        raise CorruptFile(f"header: {value!r} holds something else than integers from {least_value} to {high}")
    return tuple(result)
