"""Training the byte model: count, prune, cut the text into windows, count again with the windows' beginnings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .context_counts import CountSettings, count_contexts
from .context_model import ContextModel, context_model
from .context_pruning import PrunedContexts, PruneSettings, prune_contexts, weight_levels
from .string_trie import build_trie, parse_longest
from .strings import string_table
from .window_dictionary import window_dictionary

__all__ = ["ModelSettings", "assembled", "places_in_windows", "train_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """How the byte model is trained.

    ``counting`` and ``pruning`` make the final model; ``first_longest`` and ``first_least`` are the ``longest`` and
    ``least`` of the first model, which only cuts the text into windows.
    """

    counting: CountSettings = field(default_factory=CountSettings)
    pruning: PruneSettings = field(default_factory=PruneSettings)
    first_longest: int = 7
    first_least: int = 64


def train_model(
    documents: Sequence[NDArray[np.uint8]], settings: ModelSettings, report: Callable[[str], None]
) -> PrunedContexts:
    """The pruned contexts of ``documents``, those that reach back to the beginning of a window among them."""
    text = np.concatenate(documents)
    lengths = np.array([len(document) for document in documents], np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    counting = settings.counting
    longest = min(settings.first_longest, counting.longest)
    first = replace(counting, longest=longest, least=settings.first_least)
    model = assembled(_pruned(text, starts, None, first, settings, report))
    since_reset = places_in_windows(text, model)
    report(f"windows of 16 bits: {len(text) / np.count_nonzero(since_reset & 128):.4f} bytes each")
    return _pruned(text, starts, since_reset, counting, settings, report)


def _pruned(
    text: NDArray[np.uint8],
    starts: NDArray[np.int64],
    since_reset: NDArray[np.uint8] | None,
    counting: CountSettings,
    settings: ModelSettings,
    report: Callable[[str], None],
) -> PrunedContexts:
    counts = count_contexts(text, starts, since_reset, counting, report)
    pruned = prune_contexts(counts, settings.pruning)
    report(f"kept {len(pruned.child_counts):,} contexts with {len(pruned.entry_bytes):,} weighted bytes")
    return pruned


def assembled(pruned: PrunedContexts) -> ContextModel:
    """The model of pruned contexts, as it would be read back from its file."""
    weights = weight_levels().astype(np.uint16)[pruned.entry_levels]
    return context_model(
        pruned.child_counts, pruned.symbols, pruned.entry_counts, pruned.entry_bytes, weights, pruned.root
    )


def places_in_windows(text: NDArray[np.uint8], model: ContextModel) -> NDArray[np.uint8]:
    """Where in its 16-bit window each byte lies, in the form :func:`.count_contexts` takes."""
    strings = window_dictionary(model).strings()[1:]
    tokens = parse_longest(text, build_trie(string_table(strings)))
    lengths = np.array([len(string) for string in strings], np.int64)[tokens]
    starts = np.cumsum(lengths) - lengths
    places: NDArray[np.uint8] = np.minimum(np.arange(len(text)) - np.repeat(starts, lengths), 127).astype(np.uint8)
    before = np.concatenate([np.zeros(1, np.int64), lengths[:-1]])
    places[starts] = 128 | np.minimum(before, 127).astype(np.uint8)
    return places
