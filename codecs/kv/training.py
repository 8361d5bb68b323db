"""``codec train kv``: a profile from a Hugging Face model and text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...formats.atomic_file import AtomicFile
from ...formats.errors import InvalidParameter
from .cache import CacheTable, LayerTable, PartTable, Rotary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ..protocol import Figure
    from ..run_context import RunContext
    from .calibration import CalibrationSample
    from .model_caches import RecordedCache

__all__ = ["TrainingSettings", "cache_table_of", "model_rotary", "read_texts", "sample_of", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """What ``codec train kv --set KEY=VALUE`` takes."""

    model: str = "smollm2-135m"
    name: str = ""
    quality: int = 64
    contexts: int = 10
    rows: str = ""
    context_tokens: int = 1024
    continuation_tokens: int = 256
    reach: int = 1
    rank: int = 32
    intra_every: int = 10

    @classmethod
    def from_strings(cls, settings: Mapping[str, str]) -> TrainingSettings:
        """Raises :class:`InvalidParameter` naming the setting that is unknown or malformed."""
        values: dict[str, Any] = {}
        for key, text in settings.items():
            if key not in cls.__dataclass_fields__:
                raise InvalidParameter(
                    f"no training setting is called {key!r}; there are {', '.join(cls.__dataclass_fields__)}"
                )
            try:
                values[key] = text if key in ("model", "name", "rows") else int(text)
            except ValueError as error:
                raise InvalidParameter(f"{key}={text} is not a whole number") from error
        return cls(**values)


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Calibrate a KV-cache profile: data are text or JSON-lines files, settings name the model and its contexts."""
    from .calibration import calibrate
    from .model_caches import load_model, record_cache
    from .profile import save_profile

    chosen = TrainingSettings.from_strings(settings)
    tokenizer, model = load_model(chosen.model)
    name = chosen.name or chosen.model.rstrip("/").rpartition("/")[2]
    needed = chosen.context_tokens + chosen.continuation_tokens
    samples: list[CalibrationSample] = []
    rotary = model_rotary(model)
    for ids in read_texts(data, tokenizer, chosen.rows, needed):
        if len(samples) == chosen.contexts:
            break
        context.report("record", len(samples), chosen.contexts, unit="contexts")
        recorded = record_cache(
            model,
            ids,
            context_tokens=chosen.context_tokens,
            with_gradients=True,
            seed=context.seed + len(samples),
        )
        samples.append(sample_of(recorded, rotary))
    if not samples:
        raise InvalidParameter(f"no text of at least {needed} tokens was found in the data")
    table = cache_table_of(samples[0], name, rotary)
    profile = calibrate(
        samples,
        table,
        quality=chosen.quality,
        reach=chosen.reach,
        rank=chosen.rank,
        intra_every=chosen.intra_every,
        progress=lambda layer: context.report("calibrate", layer + 1, len(table.layers), unit="layers"),
    )
    with AtomicFile(output, overwrite=True) as file:
        sha256 = save_profile(profile, file)
        file.commit()
    return {"contexts": len(samples), "sha256": sha256, "profile_bytes": output.stat().st_size}


def read_texts(data: Sequence[Path], tokenizer: Any, rows: str, needed: int) -> Iterator[list[int]]:
    """Token ids of every text long enough; ``rows`` (``a:b``) selects lines of JSON-lines files."""
    start, _, stop = rows.partition(":")
    for path in data:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidParameter(f"cannot read {path} as text: {error}") from error
        if path.suffix != ".jsonl":
            documents = [text]
        else:
            try:
                lines = [json.loads(line) for line in text.splitlines() if line.strip()]
                documents = [row.get("prompt") or row["text"] for row in lines]
                documents = documents[int(start or 0) : int(stop) if stop else None]
            except (json.JSONDecodeError, KeyError, AttributeError, ValueError) as error:
                raise InvalidParameter(
                    f"{path}: every line must be an object with 'prompt' or 'text', and rows a range: {error}"
                ) from error
        for document in documents:
            ids = list(tokenizer(document).input_ids)
            if len(ids) >= needed:
                yield ids[:needed]


def model_rotary(model: Any) -> Rotary:
    """The rotary embedding of a Llama-like model of transformers."""
    embedding = getattr(getattr(model, "model", model), "rotary_emb", None)
    if embedding is None or not hasattr(embedding, "inv_freq"):
        raise InvalidParameter(f"{type(model).__name__} has no rotary embedding of a known form; profiles need one")
    return Rotary(inverse_frequencies=tuple(embedding.inv_freq.double().tolist()))


def cache_table_of(sample: CalibrationSample, name: str, rotary: Rotary) -> CacheTable:
    """The table of the cache a sample came from."""
    layers = []
    for key, value in sample.parts:
        layers.append(
            LayerTable(
                parts=(
                    PartTable(role="key", heads=key.shape[1], width=key.shape[2], dtype="F32"),
                    PartTable(role="value", heads=value.shape[1], width=value.shape[2], dtype="F32"),
                )
            )
        )
    return CacheTable(layers=tuple(layers), tokens=len(sample.parts[0][0]), rotary=rotary, model=name)


def sample_of(recorded: RecordedCache, rotary: Rotary) -> CalibrationSample:
    """Undo RoPE on keys and on their gradients; axes become [tokens, heads, width]."""
    from .calibration import CalibrationSample
    from .rotary import unrotate

    if recorded.key_gradients is None or recorded.value_gradients is None:
        raise ValueError("calibration needs gradients; record with with_gradients=True")
    positions = np.arange(recorded.context_tokens)
    layers = len(recorded.keys)

    def rows(keys: Any, values: Any) -> tuple[Any, ...]:
        return tuple(
            (
                np.ascontiguousarray(unrotate(keys[n], rotary, positions).swapaxes(0, 1)),
                np.ascontiguousarray(values[n].swapaxes(0, 1)),
            )
            for n in range(layers)
        )

    return CalibrationSample(
        parts=rows(recorded.keys, recorded.values),
        gradients=rows(recorded.key_gradients, recorded.value_gradients),
        mass=tuple(recorded.attention_mass),
    )
