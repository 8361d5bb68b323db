"""Segmentation of what was decoded, judged against the network's own segmentation of the original: no labels needed."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .classification import quantised_network
from .items import Item
from .scorers import Score
from .weights import WEIGHTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DeepLabConsistency", "mean_intersection_over_union"]

_REVISION = 1
_NETWORK = "deeplab-v3"


class DeepLabConsistency:
    """Mean intersection over union of DeepLab v3's classes (PASCAL VOC) with those it sees in the original.

    A picture's value is the mean over the classes of either segmentation; it says how far the machine's view moves, not
    whether it is right. Pictures are stretched to the network's 513x513.
    """

    name = _NETWORK
    title = "agreement of DeepLab v3 with itself on the originals"
    unit = "mIoU"
    kinds = frozenset({"image"})
    higher_is_better = True
    is_task = True

    def __init__(self) -> None:
        self._segmented = lru_cache(maxsize=2)(self._segment_bytes)

    def version(self) -> str:
        quantised_network(_NETWORK)
        return f"{_REVISION} {WEIGHTS[_NETWORK].sha256[:16]}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        seen, expected = self._segment(decoded), self._segment(original)
        detail = {"classes": len(set(expected.ravel().tolist()))}
        return Score(value=mean_intersection_over_union(expected, seen), detail=detail)

    def _segment(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # cells of one item follow one another, so its original is segmented once
        return self._segmented(picture.tobytes(), picture.shape[0], picture.shape[1])

    def _segment_bytes(self, data: bytes, height: int, width: int) -> NDArray[np.uint8]:
        import numpy as np
        from PIL import Image

        network = quantised_network(_NETWORK)
        picture = Image.frombytes("RGB", (width, height), data)
        resized = picture.resize(network.input_size[::-1], Image.Resampling.BILINEAR)
        return network.run(np.asarray(resized))[0].numpy().astype(np.uint8)  # type: ignore[no-any-return]


def mean_intersection_over_union(expected: NDArray[np.uint8], seen: NDArray[np.uint8]) -> float:
    """Mean over the classes that occur in either map, uint8 [H, W]; 1 when both are the same."""
    import numpy as np

    classes = np.union1d(expected, seen)
    shares = []
    for one in classes:
        first, second = expected == one, seen == one
        shares.append((first & second).sum() / (first | second).sum())
    return float(np.mean(shares))
