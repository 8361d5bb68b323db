"""The codec ``pc-grey``: stacks of small grey images of one size, under a hidden Chow-Liu tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.header import Header
from ..protocol import Figure

if TYPE_CHECKING:
    from ...formats.canonical_json import JsonValue
    from ...formats.images import ImageSource
    from ...formats.reader import ContainerReader
    from ...formats.writer import ContainerWriter
    from ..protocol import Selection
    from ..run_context import RunContext
    from .grey_stack import GreyStackReader

__all__ = ["GreyParameters", "PcGreyCodec", "StackHeader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyParameters:
    """Settings of an encode."""

    model: str = field(default="", metadata={"help": "trained weights (safetensors); default: handwritten digits"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StackHeader:
    """The parameters a ``pc-grey`` header holds: how many images of which size."""

    count: int
    height: int
    width: int

    @classmethod
    def from_header(cls, header: Header) -> StackHeader:
        values = [header.parameters.get(name) for name in ("count", "height", "width")]
        count, height, width = (value if type(value) is int else 0 for value in values)
        if min(count, height, width) < 1 or len(header.weights) != 1:
            raise CorruptFile("header: a pc-grey file names count, height, width and its weights")
        return cls(count=count, height=height, width=width)

    @property
    def pixels(self) -> int:
        return self.count * self.height * self.width


class PcGreyCodec:
    """Lossless; one model for images of one size, many images in one file.

    A file holds ``LANE`` chunks, each a stretch of images, and ``NAME`` where the input was a folder. Decode settings:
    ``images`` (``A:B``) and ``model``, the weights of files that were not written with the packaged ones.
    """

    id: ClassVar[str] = "pc-grey"
    kind: ClassVar[str] = "image"
    summary: ClassVar[str] = "lossless stacks of small grey images (hidden Chow-Liu tree)"
    lossless: ClassVar[bool] = True
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = GreyParameters
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"digits": {}}
    default_preset: ClassVar[str] = "digits"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"LANE", "NAME"})
    axes: ClassVar[frozenset[str]] = frozenset()
    checks: ClassVar[frozenset[str]] = frozenset({"profile", "weights"})

    def encode(
        self, source: ImageSource, sink: ContainerWriter, params: GreyParameters, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Encode a stack (folder, npy, idx, array or one grey image) of the size the model was trained for."""
        from .grey_stack import encode_stack  # imports numba

        return encode_stack(source.stack(), sink, params.model, context)

    def rate_figures(self, header: Header, output_bytes: int) -> Mapping[str, Figure]:
        """Bits per pixel of the whole file."""
        return {"bpp": round(8 * output_bytes / StackHeader.from_header(header).pixels, 5)}

    def decode(
        self,
        source: ContainerReader,
        sink: Any,
        *,
        context: RunContext,
        selection: Selection | None = None,
    ) -> Mapping[str, Figure]:
        """Decode all images, or those of ``selection``, and check the hash of their pixels."""
        from .grey_stack import decode_stack

        settings = {} if selection is None else dict(selection.settings)
        unknown = settings.keys() - {"images", "model"}
        if unknown:
            raise InvalidParameter(f"pc-grey decodes with images=A:B and model=FILE, not {', '.join(sorted(unknown))}")
        return decode_stack(source, sink, settings, context)

    def open(self, source: ContainerReader, *, context: RunContext) -> GreyStackReader:
        """A view whose ``images`` can be indexed and sliced: uint8 ``[height, width]`` or ``[n, height, width]``."""
        from .grey_stack import GreyStackReader

        return GreyStackReader(source, context)

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        """Number and size of the images."""
        stack = StackHeader.from_header(header)
        return {"images": stack.count, "width": stack.width, "height": stack.height, "mode": "L"}
