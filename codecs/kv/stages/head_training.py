"""``codec train kv-heads``: retrieval scores and query magnitudes of a model's heads.

RazorAttention (arXiv 2407.15891), section 3.2: on a sequence of random tokens that is repeated, an *echo head* attends
to where the current token stood before, an *induction head* to the token after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ....formats.atomic_file import AtomicFile
from ....formats.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ...protocol import Figure
    from ...run_context import RunContext

    Floats = NDArray[np.float32]

__all__ = ["HeadTrainingSettings", "query_peaks", "retrieval_scores", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTrainingSettings:
    """What ``codec train kv-heads --set KEY=VALUE`` takes."""

    model: str = "smollm2-135m"
    name: str = ""
    rows: str = ""
    contexts: int = 4
    context_tokens: int = 1024
    random_tokens: int = 256
    repeats: int = 4
    sequences: int = 4

    @classmethod
    def from_strings(cls, settings: Mapping[str, str]) -> HeadTrainingSettings:
        """Raises :class:`InvalidParameter` naming the setting that is unknown or malformed."""
        values: dict[str, Any] = {}
        for key, text in settings.items():
            if key not in cls.__dataclass_fields__:
                known = ", ".join(cls.__dataclass_fields__)
                raise InvalidParameter(f"no training setting is called {key!r}; there are {known}")
            if key not in ("model", "name", "rows") and not (text.isdecimal() and int(text) > 0):
                raise InvalidParameter(f"{key}={text} is not a whole number above 0")
            values[key] = text if key in ("model", "name", "rows") else int(text)
        chosen = cls(**values)
        if chosen.repeats < 2:
            raise InvalidParameter("repeats=1 repeats nothing; give 2 or more")
        return chosen


def train(data: Sequence[Path], output: Path, settings: Mapping[str, str], context: RunContext) -> Mapping[str, Figure]:
    """Measure a model's heads for `kv-stages`: random tokens for retrieval, text or JSON lines for query magnitudes."""
    from ..model_caches import load_model
    from ..training import read_texts
    from .head_profile import HeadProfile, save_head_profile

    chosen = HeadTrainingSettings.from_strings(settings)
    tokenizer, model = load_model(chosen.model)
    rng = np.random.default_rng(context.seed)
    scores = []
    for number in range(chosen.sequences):
        context.report("retrieval", number, chosen.sequences, unit="sequences")
        random = rng.integers(0, model.config.vocab_size, chosen.random_tokens)
        scores.append(retrieval_scores(model, random, chosen.repeats))
    induction, echo = np.mean(scores, axis=0)
    peaks: list[Floats] = []
    for ids in read_texts(data, tokenizer, chosen.rows, chosen.context_tokens):
        if len(peaks) == chosen.contexts:
            break
        context.report("queries", len(peaks), chosen.contexts, unit="contexts")
        peaks.append(query_peaks(model, ids))
    if not peaks:
        raise InvalidParameter(f"no text of at least {chosen.context_tokens} tokens was found in the data")
    profile = HeadProfile(
        model=chosen.name or chosen.model.rstrip("/").rpartition("/")[2],
        induction=induction.astype(np.float32),
        echo=echo.astype(np.float32),
        query_peaks=np.max(peaks, axis=0),
    )
    with AtomicFile(output, overwrite=True) as file:
        save_head_profile(profile, file)
        file.commit()
    return {
        "contexts": len(peaks),
        "largest_induction": float(induction.max()),
        "largest_echo": float(echo.max()),
        "profile_bytes": output.stat().st_size,
    }


def retrieval_scores(model: Any, token_ids: NDArray[np.int64], repeats: int) -> NDArray[np.float32]:
    """Induction and echo scores, float32 [2, layers, kv_heads], on ``token_ids`` repeated ``repeats`` times.

    A score is the attention that goes to those tokens, averaged over all tokens but those of the first repetition.
    """
    import torch

    period = len(token_ids)
    ids = torch.as_tensor(np.tile(token_ids, repeats))[None]
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            attentions = model(ids, output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation(implementation)
    kv_heads = model.config.num_key_value_heads
    found = []
    for attention in attentions:
        rows = attention[0].float()  # [query_heads, queries, tokens]
        own = []
        for after in (1, 0):
            total = torch.zeros(rows.shape[0])
            for back in range(1, repeats):
                # queries p >= back * period look at tokens p - back * period + after
                total += torch.diagonal(rows, after - back * period, 1, 2).sum(-1)
            own.append((total / (period * (repeats - 1))).reshape(kv_heads, -1).amax(1).numpy())
        found.append(np.stack(own))
    result: NDArray[np.float32] = np.stack(found, axis=1)
    return result


def query_peaks(model: Any, token_ids: Sequence[int]) -> Floats:
    """The largest magnitude of each query channel after RoPE, float32 [layers, kv_heads, head_dim], over a text."""
    import torch

    from ..rotary import rotate
    from ..training import model_rotary

    rotary = model_rotary(model)
    positions = np.arange(len(token_ids))
    kv_heads = model.config.num_key_value_heads
    found: list[Floats] = []

    def keep(module: Any, _inputs: Any, output: Any) -> None:
        heads = output[0].float().reshape(len(positions), model.config.num_attention_heads, -1)
        turned = np.abs(rotate(np.ascontiguousarray(heads.numpy().swapaxes(0, 1)), rotary, positions)).max(axis=1)
        found.append(turned.reshape(kv_heads, -1, turned.shape[-1]).max(axis=1))

    handles = [layer.self_attn.q_proj.register_forward_hook(keep) for layer in model.model.layers]
    try:
        with torch.no_grad():
            model(torch.as_tensor(list(token_ids))[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return np.stack(found)
