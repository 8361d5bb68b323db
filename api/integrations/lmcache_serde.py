"""An LMCache serde: chunks are stored as codeckit files.

LMCache 0.5 (``lmcache.v1.distributed.serde``) encodes the chunks it moves to a second tier with a serde that the
tier's configuration names. :func:`register` adds the name ``codeckit``::

    python -m codeckit.integrations.lmcache_serde server ... \\
        --l2-adapter '{"type": "fs", "base_path": "/cache", "serde": {"type": "codeckit", "head_dim": 128}}'

runs the command ``lmcache`` with it. Settings beside ``type``: ``codec`` (``kv``, or ``kv-lossless``), ``budget``,
``pad``, ``head_dim``, ``latent_width``, ``rope_theta``, ``rope_style``, ``model``, ``max_workers``, ``threads``; all
others are settings of the codec, such as ``quality``.

Most of LMCache's tiers load an object only if it has exactly the size the serde promised for it. So every chunk gets
``budget`` times its raw size: a chunk that needs more is encoded at a lower quality, one that needs less is padded.
``pad=false`` stores what is used, for tiers that take shorter objects. A stored object is the size of the file (8
bytes, little-endian), the file, and the padding.
"""

from __future__ import annotations

import io
import math
import struct
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmcache.v1.distributed.serde import (
    AsyncSerdeProcessor,
    Deserializer,
    SerdeProcessor,
    Serializer,
    get_registered_serde_types,
    register_serde_factory,
)

from ..codecs.run_context import RunContext
from ..encoding import encode
from ..formats.errors import CorruptFile, InvalidParameter, OutputFailure
from ..kv import decode
from .engine_tensors import EngineLayout, cache_from_groups, copy_to_groups

if TYPE_CHECKING:
    from ..codecs.kv.cache import Cache

__all__ = ["CodeckitDeserializer", "CodeckitSerializer", "create_serde", "main", "register"]

NAME = "codeckit"

_SIZE = struct.Struct("<Q")
_LAYOUT = ("head_dim", "latent_width", "rope_theta", "rope_style", "model")
_BUDGETS = {"kv": 0.35, "kv-lossless": 0.8}
_OVERHEAD_BYTES = 1 << 13
# six steps of quality halve every quantisation step, which is about a bit per element
_QUALITY_STEP = 6


class CodeckitSerializer(Serializer):  # type: ignore[misc]
    """Encodes chunks into ``budget`` times their raw size."""

    def __init__(
        self,
        layout: EngineLayout,
        codec: str,
        settings: Mapping[str, object],
        *,
        budget: float,
        pad: bool = True,
        threads: int | None = None,
    ) -> None:
        self._layout = layout
        self._codec = codec
        self._settings = dict(settings)
        self._budget = budget
        self._pad = pad
        self._context = RunContext(threads=threads)

    def serialize(self, src: Any, dst: Any, key: Any) -> int:
        """Write the file of ``src`` into ``dst``; how many bytes of it are used.

        Raises :class:`OutputFailure` when the chunk fits at no quality; LMCache then goes without it.
        """
        positions = src.metadata.cached_positions
        if positions is None and self._settings.get("profile", "none") != "none":
            raise InvalidParameter("a profile needs the positions of the tokens, which this chunk does not say")
        room = _bytes_of(dst)
        data = self._encode(cache_from_groups(_groups(src), self._layout, positions), len(room) - _SIZE.size)
        used = _SIZE.size + len(data)
        room[: _SIZE.size] = _SIZE.pack(len(data))
        room[_SIZE.size : used] = data
        if not self._pad:
            return used
        room[used:] = bytes(len(room) - used)
        return len(room)

    def estimate_serialized_size(self, layout_desc: Any) -> int:
        """The size of the buffer, which no object exceeds."""
        pairs = zip(layout_desc.shapes, layout_desc.dtypes, strict=True)
        raw: int = sum(shape.numel() * dtype.itemsize for shape, dtype in pairs)
        return _SIZE.size + _OVERHEAD_BYTES + math.ceil(raw * self._budget)

    def _encode(self, cache: Cache, room: int) -> bytes:
        settings = dict(self._settings)
        while True:
            data = encode(cache, codec=self._codec, settings=settings, context=self._context)
            if len(data) <= room:
                return data
            quality = settings.get("quality")
            if not isinstance(quality, int) or quality < _QUALITY_STEP:
                raise OutputFailure(f"the encoded chunk has {len(data):,} bytes, its budget is {room:,}")
            settings["quality"] = quality - _QUALITY_STEP


class CodeckitDeserializer(Deserializer):  # type: ignore[misc]
    """Decodes a chunk, whatever codec it was written with."""

    def __init__(self, layout: EngineLayout, profile: str | None = None, threads: int | None = None) -> None:
        self._layout = layout
        self._settings = {} if profile is None else {"profile": profile}
        self._context = RunContext(threads=threads)

    def deserialize(self, src: Any, dst: Any, key: Any) -> None:
        """Fill ``dst``; raises :class:`CorruptFile` where the stored object does not fit it."""
        stored = _bytes_of(src)
        if len(stored) < _SIZE.size:
            raise CorruptFile(f"a stored chunk of {len(stored)} bytes is cut off")
        (size,) = _SIZE.unpack(stored[: _SIZE.size])
        if size > len(stored) - _SIZE.size:
            raise CorruptFile(f"a stored chunk promises {size:,} bytes and has {len(stored) - _SIZE.size:,}")
        file = io.BytesIO(stored[_SIZE.size : _SIZE.size + size])
        cache = decode(file, settings=self._settings, context=self._context)
        cache.require_all_tokens("a stored chunk")
        copy_to_groups(cache, _groups(dst), self._layout)


def create_serde(kwargs: Mapping[str, object]) -> SerdeProcessor:
    """The factory that LMCache calls with everything beside ``type``.

    Raises :class:`InvalidParameter` for settings that neither this plug-in nor the codec knows.
    """
    settings = dict(kwargs)
    layout = EngineLayout.from_settings({name: settings.pop(name) for name in _LAYOUT if name in settings})
    codec = str(settings.pop("codec", "kv"))
    workers, threads = settings.pop("max_workers", 1), settings.pop("threads", None)
    budget, pad = settings.pop("budget", _BUDGETS.get(codec, 1.0)), settings.pop("pad", True)
    if not isinstance(workers, int) or not (threads is None or isinstance(threads, int)):
        raise InvalidParameter("max_workers and threads must be whole numbers")
    if not isinstance(budget, (int, float)) or not 0 < budget <= 2 or not isinstance(pad, bool):
        raise InvalidParameter(f"budget={budget!r} is not a number up to 2, or pad={pad!r} not true or false")
    if codec == "kv":
        settings = {"profile": "none", "quality": 60, **settings}
    _check_settings(codec, settings)
    profile = settings.get("profile")
    return AsyncSerdeProcessor(
        CodeckitSerializer(layout, codec, settings, budget=budget, pad=pad, threads=threads),
        CodeckitDeserializer(layout, None if profile in ("none", "auto", None) else str(profile), threads),
        max_workers=workers,
    )


def register() -> None:
    """Make the serde known to LMCache under the name ``codeckit``; once is enough, more does no harm."""
    if NAME not in get_registered_serde_types():
        register_serde_factory(NAME, create_serde)


def main() -> None:
    """The command ``lmcache`` with the serde registered."""
    register()
    from lmcache.cli.main import main as lmcache

    lmcache(sys.argv[1:])


def _check_settings(codec: str, settings: Mapping[str, object]) -> None:
    """Refuse unknown settings now, not at the first chunk."""
    from ..codecs.parameters import make_parameters
    from ..codecs.registry import find_codec

    chosen = find_codec(codec)
    make_parameters(chosen.Params, chosen.presets, chosen.default_preset, settings)


def _groups(memory: Any) -> list[Any]:
    """The tensors of a memory object, one for each group of equal layers."""
    shapes = memory.get_shapes()
    if len(shapes) > 1:
        return [memory.get_tensor(index) for index in range(len(shapes))]
    return [memory.tensor]


def _bytes_of(memory: Any) -> memoryview:
    return memoryview(memory.byte_array).cast("B")


if __name__ == "__main__":
    main()
