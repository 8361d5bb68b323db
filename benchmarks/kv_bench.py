"""``codec bench kv``: the rate of a cache codec from file bytes, and what its decoded caches do to a real model."""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import codeckit
from codeckit import kv
from codeckit.formats.errors import InvalidParameter

from .kv_caches import ReferenceCaches
from .provenance import provenance
from .statistics import Interval, bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from codeckit.codecs.run_context import RunContext

    from .kv_caches import Quality

__all__ = ["bench", "default_data", "stored_as"]

_OWN = {
    "codec": "kv",
    "model": "smollm2-135m",
    "data": "",
    "documents": "10:13",
    "context_tokens": "1024",
    "continuation_tokens": "256",
    "mass": "yes",
    "dtype": "F16",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    file_bytes: int
    elements: int
    ideal_bits_per_element: float | None
    profile: str
    encode_cpu_seconds: float
    decode_cpu_seconds: float
    quality: Quality


def bench(settings: Mapping[str, str], context: RunContext) -> list[dict[str, Any]]:
    """KL, top-1 agreement and perplexity of a model on decoded caches, at rates from file bytes.

    Settings: ``codec``, ``model``, ``data`` (JSON lines), ``documents`` (rows a:b), ``context_tokens``,
    ``continuation_tokens``, ``mass`` (yes or no: give the codec the attention mass), ``dtype`` (F16, BF16 or F32: how
    the cache is stored); all others go to the codec, and one with commas runs once for each value.
    """
    own = {**_OWN, **{key: value for key, value in settings.items() if key in _OWN}}
    rest = {key: value.split(",") for key, value in settings.items() if key not in _OWN}
    first, _, last = own["documents"].partition(":")
    rows = range(int(first), int(last))
    if not rows:
        raise InvalidParameter(f"documents={own['documents']} selects nothing; give a range such as 10:13")
    data = Path(own["data"]) if own["data"] else default_data()
    caches = ReferenceCaches(own["model"], data, int(own["context_tokens"]), int(own["continuation_tokens"]))
    topics = _topics(data)
    choices = [dict(zip(rest, values, strict=True)) for values in itertools.product(*rest.values())]
    outcomes: list[list[_Outcome]] = [[] for _ in choices]
    rotary = caches.rotary()
    for done, row in enumerate(rows):
        reference = caches.read(row)
        cache = kv.from_arrays(
            stored_as(reference.keys, own["dtype"]),
            stored_as(reference.values, own["dtype"]),
            rotary=rotary,
            model=Path(own["model"]).name,
            attention_mass=reference.attention_mass if own["mass"] == "yes" else None,
        )
        for number, choice in enumerate(choices):
            outcomes[number].append(_run(own["codec"], choice, cache, caches, reference, topics[row], context))
            context.report("bench", done * len(choices) + number + 1, len(rows) * len(choices))
    where = {
        "benchmark": "kv",
        "model": own["model"],
        "data": data.name,
        "documents": own["documents"],
        "context_tokens": int(own["context_tokens"]),
        "continuation_tokens": int(own["continuation_tokens"]),
        "attention_mass": own["mass"],
        "dtype": own["dtype"],
        **provenance(),
    }
    return [
        {**where, "codec": own["codec"], **_described(choice), **_summary(outcome)}
        for choice, outcome in zip(choices, outcomes, strict=True)
    ]


def _run(
    codec: str,
    settings: Mapping[str, str],
    cache: kv.Cache,
    caches: ReferenceCaches,
    reference: Any,
    topic: str,
    context: RunContext,
) -> _Outcome:
    import io

    stream = io.BytesIO()
    start = time.process_time()
    report = codeckit.encode(cache, stream, codec=codec, settings=settings, context=context)
    encoded = time.process_time()
    profile = settings.get("profile", "none")
    decode_settings = {"profile": profile} if profile not in ("none", "auto") else {}
    decoded = kv.decode(stream.getvalue(), settings=decode_settings, context=context)
    finished = time.process_time()
    keys, values = kv.to_arrays(decoded)
    ideal = report.figures.get("ideal_bits_per_element")
    return _Outcome(
        file_bytes=report.output_bytes,
        elements=cache.table.elements,
        ideal_bits_per_element=None if ideal is None else float(ideal),
        profile=str(report.figures.get("profile") or Path(profile).stem),
        encode_cpu_seconds=encoded - start,
        decode_cpu_seconds=finished - encoded,
        quality=caches.judge(reference, keys, values, topic, decoded.slots),
    )


def _summary(outcomes: Sequence[_Outcome]) -> dict[str, Any]:
    elements = sum(item.elements for item in outcomes)
    file_bytes = sum(item.file_bytes for item in outcomes)
    ideals = [item.ideal_bits_per_element for item in outcomes if item.ideal_bits_per_element is not None]
    kl = np.array([item.quality.kl for item in outcomes])
    result: dict[str, Any] = {
        "profile": outcomes[0].profile,
        "file_bytes": file_bytes,
        "bits_per_element": 8 * file_bytes / elements,
        "ratio_to_fp16": 2 * elements / file_bytes,
        "kl": float(kl.mean()),
        "kl_by_document": [round(float(value), 7) for value in kl],
        "top1": float(np.mean([item.quality.top1 for item in outcomes])),
        "perplexity": _geometric([item.quality.perplexity for item in outcomes]),
        "reference_perplexity": _geometric([item.quality.reference_perplexity for item in outcomes]),
        "answer_nats": float(np.mean([item.quality.answer_nats for item in outcomes])),
        "reference_answer_nats": float(np.mean([item.quality.reference_answer_nats for item in outcomes])),
        "encode_cpu_mb_per_second": 2e-6 * elements / sum(o.encode_cpu_seconds for o in outcomes),
        "decode_cpu_mb_per_second": 2e-6 * elements / sum(o.decode_cpu_seconds for o in outcomes),
    }
    if ideals:
        result["ideal_bits_per_element"] = float(np.mean(ideals))
    if len(outcomes) > 2:
        for name, values in (
            ("kl", kl),
            ("top1", np.array([item.quality.top1 for item in outcomes])),
        ):
            interval = _mean_interval(values)
            result[f"{name}_low"], result[f"{name}_high"] = interval.low, interval.high
    return result


def _mean_interval(values: NDArray[np.float64]) -> Interval:
    """The mean over documents with its interval over resampled documents."""
    return bootstrap(lambda chosen: float(values[chosen].mean()), len(values))


def stored_as(values: NDArray[np.float32], dtype: str) -> Any:
    """``values`` as an array of F16 or F32, or a tensor of BF16."""
    if dtype == "BF16":
        import torch

        return torch.from_numpy(values).to(torch.bfloat16)
    if dtype not in ("F16", "F32"):
        raise InvalidParameter(f"dtype={dtype} is not F16, BF16 or F32")
    return values.astype(np.float16 if dtype == "F16" else np.float32)


def _described(choice: Mapping[str, str]) -> dict[str, str]:
    # a profile is named by its file, not by where it happens to lie
    return {key: Path(value).name if key == "profile" else value for key, value in choice.items()}


def _geometric(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _topics(data: Path) -> list[str]:
    """The first topic of each document, the answer to the retrieval question; empty where the data name none."""
    with data.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [str((row.get("label") or [""])[0]) for row in rows]


def default_data() -> Path:
    """LongChat where the shared data lie; raises :class:`InvalidParameter` where they do not."""
    base = os.environ.get("CODECKIT_DATA")
    folder = Path(base) if base else Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    path = folder / "kv" / "longchat.jsonl"
    if not path.is_file():
        raise InvalidParameter(f"{path} does not exist; pass data=FILE, a JSON-lines file of long texts")
    return path
