"""Attention over caches whose heads hold chosen tokens: a mask and weights for each head, and the right positions."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...formats.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cache import CacheSlots

__all__ = ["slot_attention"]

_Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def slot_attention(model: Any, slots: CacheSlots) -> Iterator[None]:
    """While entered, ``model`` (Llama-like, of transformers) continues from caches with these ``slots``.

    Every key-value head sees its own slots, one that stands for ``n`` tokens with ``log(n)`` added to its logit, and
    new tokens stand at ``slots.next_position`` and after. Leave ``attention_mask`` and ``position_ids`` to the model.

    Raises :class:`InvalidParameter` when the model has other layers, or a cache without these slots is passed.
    """
    import torch

    decoder = getattr(model, "model", model)
    layers = getattr(decoder, "layers", None)
    rotary = getattr(decoder, "rotary_emb", None)
    if layers is None or rotary is None or len(layers) != len(slots.counts):
        found = "none" if layers is None else len(layers)
        raise InvalidParameter(
            f"{type(model).__name__} has {found} layers with one rotary embedding; the cache has {len(slots.counts)}"
        )
    biases = [torch.from_numpy(slots.bias(number)) for number in range(len(layers))]

    def masked(number: int) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> _Inputs:
            hidden = named["hidden_states"] if "hidden_states" in named else inputs[0]
            cache = named["cache"] if "cache" in named else named["past_key_values"]  # its name from and before 5.24
            past = cache.get_seq_length(number)
            named["attention_mask"] = _mask(biases[number], hidden, past, model.config.num_attention_heads)
            return inputs, named

        return hook

    def shifted(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> _Inputs:
        # the model counts slots where the context has tokens
        shift = slots.next_position - biases[0].shape[1]
        if "position_ids" in named:
            named["position_ids"] = named["position_ids"] + shift
            return inputs, named
        return (inputs[0], inputs[1] + shift, *inputs[2:]), named

    handles = [rotary.register_forward_pre_hook(shifted, with_kwargs=True)]
    for number, layer in enumerate(layers):
        handles.append(layer.self_attn.register_forward_pre_hook(masked(number), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mask(bias: Any, hidden: Any, past: int, query_heads: int) -> Any:
    """[1, query_heads, queries, slots + new tokens], added to the logits."""
    import torch

    heads, slots = bias.shape
    queries, new = hidden.shape[1], past - bias.shape[1]
    if new < 0:
        raise InvalidParameter(f"the cache holds {past} tokens, its slots are {slots}; pass the cache they belong to")
    mask = torch.zeros(heads, queries, past + queries, dtype=hidden.dtype, device=hidden.device)
    mask[:, :, :slots] = bias.to(hidden.dtype).to(hidden.device)[:, None]
    later = torch.ones(queries, new + queries, dtype=torch.bool, device=hidden.device).triu(new + 1)
    mask[:, :, slots:].masked_fill_(later, float("-inf"))
    return mask.repeat_interleave(query_heads // heads, 0)[None]
