"""The ``kv`` codec: KV caches by prediction across layers, decorrelating transforms and steps by importance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...formats.errors import CorruptFile, InvalidParameter
from ...formats.header import Header
from .cache_codec import CacheCodec, check_chunk_tokens, read_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ...formats.canonical_json import JsonValue
    from ...formats.reader import ContainerReader
    from ...formats.tensors import TensorSource
    from ...formats.writer import ContainerWriter
    from ..protocol import Figure
    from ..run_context import RunContext
    from .cache import Cache, CacheTable
    from .decoding import CacheRange, LayerRange

__all__ = ["KVCodec", "KVParams"]

_MAX_QUALITY = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class KVParams:
    """Settings of the ``kv`` codec."""

    quality: int = field(default=66, metadata={"help": "fineness of the steps; 6 more halve them (0 to 120)"})
    profile: str = field(
        default="auto",
        metadata={
            "help": "a profile file, 'auto' (a shipped one for the cache's model) or 'none' (learn from the cache)"
        },
    )
    chunk_tokens: int = field(default=512, metadata={"help": "tokens per independently readable chunk"})
    transform: Literal["auto", "heads", "none"] = field(
        default="auto",
        metadata={"help": "without a profile: decorrelate the channels of each head, or not"},
    )

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= _MAX_QUALITY:
            raise InvalidParameter(f"quality={self.quality} is not in 0..{_MAX_QUALITY}")
        check_chunk_tokens(self.chunk_tokens)
        if not self.profile:
            raise InvalidParameter("profile is empty; give a file, 'auto' or 'none'")


class KVCodec(CacheCodec):
    """See :class:`KVParams` and ``docs/kv.md``.

    Decode settings: ``profile`` (a file), ``first_position`` (where the first decoded token shall stand).
    """

    id: ClassVar[str] = "kv"
    summary: ClassVar[str] = "LLM KV caches, predicted across layers, quantised by what errors cost"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = KVParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"quality": 58},
        "balanced": {"quality": 66},
        "high": {"quality": 76},
    }
    default_preset: ClassVar[str] = "balanced"
    chunk_types: ClassVar[frozenset[str]] = frozenset({"MODL", "WGTS", "KVLB"})
    decode_settings: ClassVar[tuple[str, ...]] = ("profile", "first_position")
    checks: ClassVar[frozenset[str]] = frozenset({"weights"})

    def encode(
        self, source: TensorSource, sink: ContainerWriter, params: KVParams, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Write the cache; every value must be finite."""
        from .cache_tensors import cache_from_source
        from .encoding import MODEL_CHUNK, encode_chunks, prepare_model
        from .profile_lookup import find_profile

        cache = cache_from_source(source)
        profile = find_profile(params.profile, cache.table)
        transform = None if params.transform == "auto" else params.transform == "heads"
        model, weights, payload = prepare_model(cache, profile, params.quality, transform)
        sink.write_header(
            Header(
                codec=self.id,
                bitstream=self.bitstream_version,
                parameters={
                    "cache": cache.table.as_json(),
                    "chunk_tokens": params.chunk_tokens,
                    "quality": params.quality,
                },
                weights=() if profile is None else (profile.sha256,),
            )
        )
        if payload is not None:
            sink.write_chunk(MODEL_CHUNK, payload)
        figures = encode_chunks(
            cache,
            model,
            weights,
            sink,
            quality=params.quality,
            chunk_tokens=params.chunk_tokens,
            context=context,
        )
        figures["profile"] = "none" if profile is None else profile.table.model or profile.sha256[:12]
        return figures

    def _details(self, header: Header) -> Mapping[str, JsonValue]:
        return {"quality": _quality(header), "profile": header.weights[0][:12] if header.weights else "none"}

    def _placed(
        self,
        table: CacheTable,
        tokens: tuple[int, int],
        settings: Mapping[str, str],
        positions: NDArray[np.int64] | None,
    ) -> NDArray[np.int64] | None:
        import numpy as np

        count = tokens[1] - tokens[0]
        first = settings.get("first_position")
        if first is not None:
            if not first.isdecimal():
                raise InvalidParameter(f"first_position={first} is not a whole number")
            positions = np.arange(int(first), int(first) + count)
        if positions is None:
            return None
        positions = np.asarray(positions, np.int64)
        if table.rotary is None:
            raise InvalidParameter("the file knows no rotary embedding, so its keys cannot be moved")
        if positions.shape != (count,) or int(positions.min()) < 0:
            raise InvalidParameter(f"positions must be {count} numbers from 0 on, one per token")
        return positions

    def _ranges(
        self,
        source: ContainerReader,
        wanted: CacheRange,
        result: Cache,
        settings: Mapping[str, str],
        positions: NDArray[np.int64] | None,
        *,
        whole: bool,
        at_once: bool,
        context: RunContext,
    ) -> Iterator[LayerRange]:
        from .decoding import decode_layers
        from .profile_lookup import profile_for_file

        table, chunk_tokens = read_parameters(source.header)
        quality = _quality(source.header)
        hashes = source.header.weights
        profile = profile_for_file(hashes[0], settings.get("profile")) if hashes else None
        if profile is not None:
            profile.check_fits(table)
        return decode_layers(
            source,
            table,
            wanted,
            result,
            profile=profile,
            quality=quality,
            chunk_tokens=chunk_tokens,
            positions=positions,
            whole=whole,
            at_once=at_once,
            context=context,
        )


def _quality(header: Header) -> int:
    quality = header.parameters.get("quality")
    if not isinstance(quality, int) or not 0 <= quality <= _MAX_QUALITY:
        raise CorruptFile(f"header: quality {quality!r} is not in 0..{_MAX_QUALITY}")
    return quality
