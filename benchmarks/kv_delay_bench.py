"""``codec bench kv-delay``: how long until a context is ready, at each bandwidth and for each way to send it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import codeckit
from codeckit import kv
from codeckit.codecs.kv.training import read_texts
from codeckit.formats.errors import InvalidParameter
from codeckit.formats.object_store import open_store
from codeckit.formats.safetensors_file import write_safetensors
from codeckit.formats.tensors import open_source

from .kv_bench import default_data
from .kv_caches import ReferenceCaches
from .provenance import provenance
from .throttled_server import ThrottledServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from codeckit.codecs.run_context import RunContext

    from .kv_caches import Reference

__all__ = ["bench"]

_OWN = {
    "model": "smollm2-135m",
    "data": "",
    "document": "10",
    "context_tokens": "1024",
    "continuation_tokens": "256",
    "methods": "raw;text;kv-lossless;kv:quality=60",
    "megabits": "10,30,100,300,1000,3000",
    "repeats": "3",
}


def bench(settings: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """Delay against bandwidth over a throttled connection, transfer and decoding overlapped; the median of repeats.

    Settings: ``model``, ``data``, ``document``, ``context_tokens``, ``megabits`` (per second, joined by commas),
    ``repeats``, and ``methods``, joined by semicolons: ``raw`` (fp16 safetensors), ``text`` (token ids, recomputed by
    the model here), or a codec with settings such as ``kv:quality=60,profile=FILE``.
    """
    unknown = settings.keys() - _OWN.keys()
    if unknown:
        raise InvalidParameter(f"kv-delay knows no setting {sorted(unknown)[0]!r}; there are {', '.join(_OWN)}")
    own = {**_OWN, **settings}
    data = Path(own["data"]) if own["data"] else default_data()
    caches = ReferenceCaches(own["model"], data, int(own["context_tokens"]), int(own["continuation_tokens"]))
    reference = caches.read(int(own["document"]))
    cache = kv.from_arrays(
        reference.keys.astype(np.float16),
        reference.values.astype(np.float16),
        rotary=caches.rotary(),
        model=Path(own["model"]).name,
        attention_mass=reference.attention_mass,
    )
    where = {
        "benchmark": "kv-delay",
        "model": own["model"],
        "data": data.name,
        "document": int(own["document"]),
        "context_tokens": int(own["context_tokens"]),
        **provenance(),
    }
    count = int(own["context_tokens"])
    ids = next(read_texts([data], caches.loaded[0], f"{reference.row}:{reference.row + 1}", count))
    rates = [float(rate) for rate in own["megabits"].split(",")]
    methods = own["methods"].split(";")
    rows = []
    with tempfile.TemporaryDirectory() as folder, ThrottledServer(Path(folder)) as server:
        for text in methods:
            method = _method(text, cache, caches, reference, np.array(ids[:count]), server, context)
            method.receive()  # compiles and loads what is needed
            for rate in rates:
                rows.append(
                    {
                        **where,
                        "method": text.partition(",profile=")[0],
                        "megabits_per_second": rate,
                        "file_bytes": (server.folder / method.name).stat().st_size,
                        "delay_seconds": _delay(method, server, rate, int(own["repeats"])),
                        "kl": method.kl,
                    }
                )
                context.report("bench", len(rows), len(rates) * len(methods))
    return rows


def _delay(method: _Method, server: ThrottledServer, megabits: float, repeats: int) -> float:
    """The median of ``repeats`` measurements, in seconds."""
    seconds = []
    for _ in range(repeats):
        server.throttle.start((0, megabits * 1e6 / 8))
        began = time.perf_counter()
        method.receive()
        seconds.append(time.perf_counter() - began)
    server.throttle.start()
    return float(np.median(seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """A served object, what receives and unpacks it, and what it costs in quality (KL in nats per token)."""

    name: str
    receive: Callable[[], object]
    kl: float


def _method(
    text: str,
    cache: kv.Cache,
    caches: ReferenceCaches,
    reference: Reference,
    token_ids: NDArray[np.int64],
    server: ThrottledServer,
    context: RunContext,
) -> _Method:
    if text == "raw":
        return _raw(cache, server, context)
    if text == "text":
        return _text(token_ids, caches.loaded[1], server)
    codec, _, options = text.partition(":")
    settings = dict(item.split("=", 1) for item in options.split(",") if item)
    name = f"{codec}.ck"
    (server.folder / name).write_bytes(codeckit.encode(cache, codec=codec, settings=settings, context=context))
    profile = settings.get("profile", "none")
    chosen = {} if profile in ("none", "auto") else {"profile": profile}

    def receive() -> kv.Cache:
        with kv.stream(f"{server.url}/{name}", settings=chosen, context=context) as layers:
            return layers.finish()

    keys, values = kv.to_arrays(receive())
    return _Method(name=name, receive=receive, kl=caches.judge(reference, keys, values, "").kl)


def _raw(cache: kv.Cache, server: ThrottledServer, context: RunContext) -> _Method:
    name = "raw.safetensors"
    tensors, metadata = cache.named_tensors()
    with (server.folder / name).open("wb") as stream:
        write_safetensors(stream, tensors, metadata)

    def receive() -> object:
        with open_store(server.url) as store:
            return open_source(store.read(name, 1 << 32), limits=context.limits).tensors

    return _Method(name=name, receive=receive, kl=0.0)


def _text(token_ids: NDArray[np.int64], model: Any, server: ThrottledServer) -> _Method:
    import torch

    name = "text.ids"
    (server.folder / name).write_bytes(token_ids.astype("<u4").tobytes())

    def receive() -> object:
        with open_store(server.url) as store:
            ids = np.frombuffer(store.read(name, 1 << 24), "<u4").astype(np.int64)
        with torch.no_grad():
            return model(torch.from_numpy(ids)[None], use_cache=True, logits_to_keep=1).past_key_values

    return _Method(name=name, receive=receive, kl=0.0)
