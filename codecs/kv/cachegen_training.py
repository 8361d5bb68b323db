"""``codec train cachegen``: tables for the ``cachegen`` codec from a Hugging Face model and text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...formats.atomic_file import AtomicFile
from ...formats.errors import InvalidParameter
from .training import TrainingSettings, read_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ..protocol import Figure
    from ..run_context import RunContext

__all__ = ["train"]


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Calibrate CacheGen's tables: as `codec train kv`, with levels=A,B,C (delta bins in thousandths), no quality."""
    from .cachegen_profile_file import save_tables
    from .cachegen_tables import build_tables
    from .model_caches import load_model, record_cache

    rest = dict(settings)
    levels = rest.pop("levels", "150,300,500").split(",")
    if not all(level.isdecimal() and 50 <= int(level) <= 10_000 for level in levels):
        raise InvalidParameter(f"levels={','.join(levels)} are not whole numbers in 50..10000")
    chosen = TrainingSettings.from_strings(rest)
    tokenizer, model = load_model(chosen.model)
    samples: list[list[NDArray[np.float32]]] = []
    layers = 0
    for ids in read_texts(data, tokenizer, chosen.rows, chosen.context_tokens + 1):
        if len(samples) == chosen.contexts:
            break
        context.report("record", len(samples), chosen.contexts, unit="contexts")
        recorded = record_cache(model, ids, context_tokens=chosen.context_tokens)
        layers = len(recorded.keys)
        # [heads, tokens, width] -> [tokens, channels], keys and values of each layer in turn
        samples.append(
            [
                np.ascontiguousarray(part[layer].swapaxes(0, 1)).reshape(chosen.context_tokens, -1)
                for layer in range(layers)
                for part in (recorded.keys, recorded.values)
            ]
        )
    if not samples:
        raise InvalidParameter(f"no text of more than {chosen.context_tokens} tokens was found in the data")
    tables = [build_tables(zip(*samples, strict=True), 2 * layers, layers, level=int(level)) for level in levels]
    name = chosen.name or chosen.model.rstrip("/").rpartition("/")[2]
    with AtomicFile(output, overwrite=True) as file:
        sha256 = save_tables(tables, name, file)
        file.commit()
    return {"contexts": len(samples), "sha256": sha256, "profile_bytes": output.stat().st_size}
