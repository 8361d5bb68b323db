"""The shape of a NeRV++ network: how frames are told apart, channels and kernels of its stages.

Follows "NeRV++: An Enhanced Implicit Neural Video Representation" (arXiv 2402.18305) and its published commands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...formats.errors import CorruptFile, InvalidParameter
from .hnerv_structure import network_summary, padded_size, positive_integers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...formats.canonical_json import JsonValue
    from .frame_decoder import FrameDecoder

__all__ = ["TIME_FEATURES", "NeRVPlusPlusStructure", "Stage", "fit_widths"]

TIME_FEATURES = 80
"""Values of the positional encoding of a frame's time: 40 sines and 40 cosines."""

DEPTHWISE_KERNEL = 3
_KERNELS = (1, 3, 5)
_MAX_STAGES = 8
_MAX_WIDTH = 1 << 13
_MAX_STRIDE = 16
_FIELDS = {"columns", "embedding", "expansion", "hidden", "kernels", "rows", "strides", "widths"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One upsampling stage: channels before and after, factor, and kernel of the convolution that upsamples."""

    before: int
    width: int
    stride: int
    kernel: int

    def parameters(self, expansion: int) -> int:
        """Weights and biases."""
        upsampling = (self.width * self.kernel**2 + 1) * self.width * self.stride**2
        return (self.before + 1) * self.width + 2 * _block_parameters(self.width, expansion) + upsampling

    def macs(self, expansion: int) -> int:
        """Multiplications for each cell before upsampling."""
        block = self.width * DEPTHWISE_KERNEL**2 + 2 * expansion * self.width**2
        upsampling = self.width**2 * self.kernel**2 * self.stride**2
        return self.before * self.width + block + upsampling + block * self.stride**2


@dataclass(frozen=True, slots=True, kw_only=True)
class NeRVPlusPlusStructure:
    """A network that begins on a grid of ``rows`` x ``columns``.

    Frames are told apart by embeddings of ``embedding`` channels on that grid, or, where that is 0, by their time: a
    perceptron of ``hidden`` channels makes the first ``widths[0]`` channels of the grid from its positional encoding.
    ``widths`` has one entry more than ``strides``: the channels of the stem and of every stage. ``expansion`` is how
    many times wider a separable residual block is inside.
    """

    rows: int
    columns: int
    embedding: int
    hidden: int
    strides: tuple[int, ...]
    kernels: tuple[int, ...]
    widths: tuple[int, ...]
    expansion: int

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of the pictures the network makes, padding included."""
        total = math.prod(self.strides)
        return self.rows * total, self.columns * total

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The upsampling stages, coarse to fine."""
        steps = zip(pairwise(self.widths), self.strides, self.kernels, strict=True)
        return tuple(Stage(before, width, stride, kernel) for (before, width), stride, kernel in steps)

    @property
    def decoder_parameters(self) -> int:
        """Number of weights and biases of the decoder."""
        stages = sum(stage.parameters(self.expansion) for stage in self.stages)
        return self._stem(1) + stages + (self.widths[-1] + 1) * 3

    @property
    def embedding_shape(self) -> tuple[int, int, int] | None:
        """[channels, rows, columns] of a frame's embedding; None where frames are told apart by their time."""
        return (self.embedding, self.rows, self.columns) if self.embedding else None

    @property
    def macs_per_frame(self) -> int:
        """Multiplications of the decoder for one frame."""
        pixels = self.rows * self.columns
        count = self._stem(0) * (pixels if self.embedding else 1)
        for stage in self.stages:
            count += pixels * stage.macs(self.expansion)
            pixels *= stage.stride**2
        return count + pixels * self.widths[-1] * 3

    def _stem(self, bias: int) -> int:
        """Weights of the stem, and ``bias`` times its biases."""
        if self.embedding:
            return (self.embedding + bias) * self.widths[0]
        return (TIME_FEATURES + bias) * self.hidden + (self.hidden + bias) * self.widths[0] * self.rows * self.columns

    def as_json(self) -> dict[str, JsonValue]:
        """For a file header."""
        return {
            "columns": self.columns,
            "embedding": self.embedding,
            "expansion": self.expansion,
            "hidden": self.hidden,
            "kernels": list(self.kernels),
            "rows": self.rows,
            "strides": list(self.strides),
            "widths": list(self.widths),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> NeRVPlusPlusStructure:
        """Parse what :meth:`as_json` wrote; raises :class:`CorruptFile` for anything else."""
        if not isinstance(value, dict) or value.keys() != _FIELDS:
            raise CorruptFile("header: the network's structure has missing or unknown fields")
        strides = positive_integers(value["strides"], 1, _MAX_STAGES, _MAX_STRIDE)
        count = len(strides)
        stem = positive_integers([value["embedding"], value["hidden"]], 2, 2, _MAX_WIDTH, least_value=0)
        if (stem[0] > 0) == (stem[1] > 0):
            raise CorruptFile("header: a network needs either embeddings or a perceptron for times")
        kernels = positive_integers(value["kernels"], count, count, max(_KERNELS))
        if not set(kernels) <= set(_KERNELS):
            raise CorruptFile(f"header: kernels {kernels} hold something else than {_KERNELS}")
        return cls(
            rows=positive_integers([value["rows"]], 1, 1, 1 << 16)[0],
            columns=positive_integers([value["columns"]], 1, 1, 1 << 16)[0],
            embedding=stem[0],
            hidden=stem[1],
            strides=strides,
            kernels=kernels,
            widths=positive_integers(value["widths"], count + 1, count + 1, _MAX_WIDTH),
            expansion=positive_integers([value["expansion"]], 1, 1, 16)[0],
        )

    def summary(self) -> Mapping[str, JsonValue]:
        """What a person wants to know about the network."""
        return network_summary(self, widths=self.widths, strides=self.strides)

    def make_decoder(self) -> FrameDecoder:
        """The network with fresh weights."""
        from .nervpp_network import Decoder  # torch

        return Decoder(self)


def fit_widths(
    widths_from: Callable[[int], tuple[int, ...]],
    *,
    height: int,
    width: int,
    frames: int,
    strides: Sequence[int],
    kernels: Sequence[int],
    embedding: int,
    hidden: int,
    expansion: int,
    model_size: float,
) -> NeRVPlusPlusStructure:
    """The widest network whose decoder and embeddings together have at most ``model_size`` million parameters.

    ``widths_from`` gives all widths for a first one. Raises :class:`InvalidParameter` when none is small enough.
    """
    padded_height, padded_width = padded_size(height, width, strides)
    total = math.prod(strides)

    def candidates() -> Iterator[NeRVPlusPlusStructure]:
        for first in range(1, _MAX_WIDTH + 1):
            yield NeRVPlusPlusStructure(
                rows=padded_height // total,
                columns=padded_width // total,
                embedding=embedding,
                hidden=hidden,
                strides=tuple(strides),
                kernels=tuple(kernels),
                widths=widths_from(first),
                expansion=expansion,
            )

    best = None
    for candidate in candidates():
        size = candidate.decoder_parameters + frames * math.prod(candidate.embedding_shape or (0,))
        if size > model_size * 1e6:
            if best is None:
                raise InvalidParameter(
                    f"model_size={model_size:g} million parameters is too small: the narrowest network of this kind "
                    f"and the embeddings of {frames} frames have {size / 1e6:.3f} million"
                )
            return best
        best = candidate
    raise InvalidParameter(f"model_size={model_size:g} million parameters needs more than {_MAX_WIDTH} channels")


def _block_parameters(width: int, expansion: int) -> int:
    inside = expansion * width
    return (DEPTHWISE_KERNEL**2 + 1) * width + (width + 1) * inside + (inside + 1) * width
