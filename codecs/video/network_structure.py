"""What the codecs whose file is a fitted network agree on: the shape of such a network, known without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...formats.canonical_json import JsonValue
    from .frame_decoder import FrameDecoder

__all__ = ["NetworkStructure"]


class NetworkStructure(Protocol):
    """A network that makes the pictures of one clip, each from what tells its frame apart from the others."""

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of the pictures the network makes, padding included."""
        ...

    @property
    def decoder_parameters(self) -> int:
        """Number of weights and biases of the decoder."""
        ...

    @property
    def macs_per_frame(self) -> int:
        """Multiplications of the decoder for one frame."""
        ...

    @property
    def embedding_shape(self) -> tuple[int, int, int] | None:
        """[channels, rows, columns] of the embedding a file stores for each frame; None where time alone is used."""
        ...

    def as_json(self) -> dict[str, JsonValue]:
        """For a file header."""
        ...

    def summary(self) -> Mapping[str, JsonValue]:
        """What a person wants to know about the network."""
        ...

    def make_decoder(self) -> FrameDecoder:
        """The network with fresh weights on torch's current device."""
        ...
