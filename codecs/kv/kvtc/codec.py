"""The ``kvtc`` codec: a labelled baseline, KV Cache Transform Coding as published.

Staniszewski and Łańcucki, "KV Cache Transform Coding for Compact Storage in LLM Inference" (arXiv 2511.01815).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ....formats.errors import CorruptFile, InvalidParameter
from ....formats.header import Header
from ...protocol import Selection
from ..cache_codec import CacheCodec, describe_table, thread_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ....formats.canonical_json import JsonValue
    from ....formats.reader import ContainerReader
    from ....formats.tensors import TensorSource
    from ....formats.writer import ContainerWriter
    from ...protocol import Figure
    from ...run_context import RunContext
    from ..cache import Cache
    from ..decoding import LayerRange
    from ..streaming import CacheStream
    from .file_layout import KVTCLayout
    from .profile import KVTCProfile

__all__ = ["KVTCCodec", "KVTCParams"]

_EXACT, _COMPONENTS = "KTEX", "KTCO"


@dataclass(frozen=True, slots=True, kw_only=True)
class KVTCParams:
    """Settings of the ``kvtc`` codec."""

    profile: str = field(default="none", metadata={"help": "a file made by `codec train kvtc`; there is no other way"})
    budget_millibits: int = field(
        default=1000, metadata={"help": "thousandths of a bit for each number of a transformed token, before DEFLATE"}
    )
    sinks: int = field(default=4, metadata={"help": "first tokens kept exactly"})
    window: int = field(default=128, metadata={"help": "last tokens kept exactly"})
    chunk_tokens: int = field(default=512, metadata={"help": "transformed tokens to a chunk"})

    def __post_init__(self) -> None:
        for name, low, high in (
            ("budget_millibits", 1, 16_000),
            ("sinks", 0, 1 << 28),
            ("window", 0, 1 << 28),
            ("chunk_tokens", 1, 1 << 20),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidParameter(f"{name}={value} is not in {low}..{high}")


class KVTCCodec(CacheCodec):
    """See :class:`KVTCParams` and ``docs/kv-stages.md``."""

    id: ClassVar[str] = "kvtc"
    summary: ClassVar[str] = "LLM KV caches as KVTC codes them: joint principal components, DEFLATE (a baseline)"
    lossless: ClassVar[bool] = False
    bitstream_version: ClassVar[int] = 1
    Params: ClassVar[type] = KVTCParams
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "half": {"budget_millibits": 500},
        "one": {"budget_millibits": 1000},
        "two": {"budget_millibits": 2000},
    }
    default_preset: ClassVar[str] = "one"
    chunk_types: ClassVar[frozenset[str]] = frozenset({_EXACT, _COMPONENTS})
    axes: ClassVar[frozenset[str]] = frozenset()
    checks: ClassVar[frozenset[str]] = frozenset({"weights"})

    def encode(
        self, source: TensorSource, sink: ContainerWriter, params: KVTCParams, *, context: RunContext
    ) -> Mapping[str, Figure]:
        """Write the cache; every value must be finite."""
        from ..cache_tensors import cache_from_source
        from .allocation import allocate
        from .coding import encode_components, encode_exact
        from .file_layout import KVTCLayout
        from .profile import load_profile

        if params.profile == "none":
            raise InvalidParameter(
                "kvtc needs the principal components of a model: make profile=FILE with `codec train kvtc`"
            )
        cache = cache_from_source(source)
        profile = load_profile(Path(params.profile))
        profile.check_fits(cache.table)
        layers, heads, width = profile.shape
        budget = params.budget_millibits * layers * heads * width // 1000
        groups = [tuple(allocate(part.errors, budget)) for part in profile.parts]
        layout = KVTCLayout(
            table=cache.table,
            sinks=params.sinks,
            window=params.window,
            chunk_tokens=params.chunk_tokens,
            groups=(groups[0], groups[1]),
        )
        sink.write_header(
            Header(
                codec=self.id,
                bitstream=self.bitstream_version,
                parameters=layout.as_json(),
                weights=(profile.sha256,),
            )
        )
        sink.write_chunk(_EXACT, encode_exact(cache, layout))
        for start, stop in layout.spans():
            sink.write_chunk(_COMPONENTS, encode_components(cache, layout, profile, start, stop), span=(start, stop))
            context.report("encode", stop, cache.table.tokens, unit="tokens")
        return {}

    def describe(self, header: Header) -> Mapping[str, JsonValue]:
        from .file_layout import KVTCLayout

        layout = KVTCLayout.from_json(header.parameters)
        return {
            **describe_table(layout.table),
            "components": [sum(group.size for group in groups) for groups in layout.groups],
            "sinks": layout.sinks,
            "window": layout.window,
            "profile": header.weights[0][:12] if header.weights else "none",
        }

    def _stream(
        self,
        source: ContainerReader,
        context: RunContext,
        selection: Selection | None,
        positions: NDArray[np.int64] | None,
        *,
        at_once: bool,
    ) -> CacheStream:
        """Layers are coded together, so all of them come at the end."""
        from ..decoding import CacheRange, blank_cache
        from ..streaming import CacheStream
        from .file_layout import KVTCLayout
        from .profile import load_profile

        layout = KVTCLayout.from_json(source.header.parameters)
        chosen = selection or Selection()
        settings = dict(chosen.settings)
        path = settings.pop("profile", None)
        if settings:
            raise InvalidParameter(f"decode setting {next(iter(settings))!r} is unknown; known: profile")
        for axis, length in (("layers", len(layout.table.layers)), ("tokens", layout.table.tokens)):
            if chosen.range_of(axis, length) != (0, length):
                raise InvalidParameter("kvtc codes all layers together and is decoded whole; cut the result")
        if positions is not None:
            raise InvalidParameter("kvtc keeps sinks and window after RoPE, so keys cannot be moved; use kv for that")
        needed = source.header.weights[0] if source.header.weights else ""
        if path is None:
            raise InvalidParameter(f"the file needs the profile {needed[:12]}...; pass it with --set profile=FILE")
        profile = load_profile(Path(path))
        if profile.sha256 != needed:
            raise InvalidParameter(
                f"the file needs the profile {needed[:12]}..., {path} (of {profile.model!r}) is "
                f"{profile.sha256[:12]}..."
            )
        profile.check_fits(layout.table)
        layout.check_ranks(profile)
        whole = CacheRange(layers=(0, len(layout.table.layers)), tokens=(0, layout.table.tokens))
        result = blank_cache(layout.table, whole, context)
        return CacheStream(result, _decoded(source, layout, profile, result, context))


def _decoded(
    source: ContainerReader, layout: KVTCLayout, profile: KVTCProfile, result: Cache, context: RunContext
) -> Iterator[LayerRange]:
    from ..decoding import LayerRange
    from .coding import decode_components, decode_exact

    threads = thread_count(context)
    expected: list[tuple[str, tuple[int, ...]]] = [(_EXACT, ()), *((_COMPONENTS, span) for span in layout.spans())]
    done = 0
    for chunk in source.chunks():
        if not chunk.type[0].isupper():
            continue
        if done >= len(expected) or chunk.type != expected[done][0] or chunk.span not in (None, expected[done][1]):
            raise CorruptFile(f"chunk {chunk.sequence} is {chunk.type} {chunk.span}, which is not expected there")
        if chunk.type == _EXACT:
            decode_exact(chunk.payload, layout, result, threads)
        else:
            start, stop = expected[done][1]
            decode_components(chunk.payload, layout, profile, start, stop, result)
            context.report("decode", stop, layout.table.tokens, unit="tokens")
        done += 1
    if done < len(expected):
        raise CorruptFile(f"the file ends before {expected[done][0]} {expected[done][1]}")
    for layer in range(len(layout.table.layers)):
        yield LayerRange(layer=layer, start=0, stop=layout.table.tokens)
