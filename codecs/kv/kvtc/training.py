"""``codec train kvtc``: principal components of a model's caches over text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ....formats.atomic_file import AtomicFile
from ....formats.errors import InvalidParameter
from ..training import TrainingSettings, model_rotary, read_texts
from .allocation import UNIT, group_errors
from .profile import Components, KVTCProfile, save_profile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ...protocol import Figure
    from ...run_context import RunContext

    Floats = NDArray[np.float32]

__all__ = ["fit_components", "train"]

_SINKS = 4
_ERROR_TOKENS = 1024


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Calibrate KVTC: as `codec train kv` (model, name, rows, contexts, context_tokens), and rank=N components."""
    from ..model_caches import load_model, record_cache
    from ..rotary import unrotate

    rest = {"rank": "1536", **settings}
    chosen = TrainingSettings.from_strings(rest)
    if chosen.rank < UNIT or chosen.rank % UNIT:
        raise InvalidParameter(f"rank={chosen.rank} is not a multiple of {UNIT}")
    tokenizer, model = load_model(chosen.model)
    rotary = model_rotary(model)
    rows: tuple[list[Floats], list[Floats]] = ([], [])
    shape = (0, 0, 0)
    for ids in read_texts(data, tokenizer, chosen.rows, chosen.context_tokens + 1):
        if len(rows[0]) == chosen.contexts:
            break
        context.report("record", len(rows[0]), chosen.contexts, unit="contexts")
        recorded = record_cache(model, ids, context_tokens=chosen.context_tokens)
        layers, heads, tokens, width = recorded.keys.shape
        shape = (layers, heads, width)
        keys = np.stack([unrotate(own, rotary, np.arange(tokens)) for own in recorded.keys])
        for target, values in zip(rows, (keys, recorded.values), strict=True):
            # [layers, heads, tokens, width] -> [tokens, features]; sinks are not what the transform is for
            target.append(np.ascontiguousarray(values.transpose(2, 0, 1, 3)).reshape(tokens, -1)[_SINKS:])
    if not rows[0]:
        raise InvalidParameter(f"no text of more than {chosen.context_tokens} tokens was found in the data")
    parts = []
    for number, own in enumerate(rows):
        context.report("components", number, len(rows))
        parts.append(fit_components(np.concatenate(own), chosen.rank))
    profile = KVTCProfile(
        model=chosen.name or chosen.model.rstrip("/").rpartition("/")[2],
        shape=shape,
        parts=(parts[0], parts[1]),
    )
    with AtomicFile(output, overwrite=True) as file:
        sha256 = save_profile(profile, file)
        file.commit()
    return {"contexts": len(rows[0]), "sha256": sha256, "profile_bytes": output.stat().st_size}


def fit_components(features: Floats, rank: int) -> Components:
    """The first ``rank`` principal components of ``features`` [tokens, features], and errors on some of the tokens."""
    from scipy.linalg import eigh

    tokens, count = features.shape
    if rank > min(tokens - 1, count):
        raise InvalidParameter(f"rank={rank} needs more than {rank} tokens and as many features, got {tokens}, {count}")
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = features - mean
    if tokens < count:
        # the components of few tokens are combinations of them, which needs a smaller matrix
        _, mixtures = eigh(centred @ centred.T, subset_by_index=(tokens - rank, tokens - 1), overwrite_a=True)
        vectors = centred.T @ mixtures
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), np.float32(1e-20))
    else:
        _, vectors = eigh(centred.T @ centred, subset_by_index=(count - rank, count - 1), overwrite_a=True)
    basis = vectors[:, ::-1].astype(np.float16)
    sample = centred[np.linspace(0, tokens - 1, min(tokens, _ERROR_TOKENS)).astype(np.int64)]
    return Components(mean=mean, basis=basis, errors=group_errors(sample @ basis.astype(np.float32)))
