"""Image classification of what was decoded: top-1 by the shipped MobileNets or torchvision's models."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..codecs.plugins import nearest
from ..formats.errors import ExternalFailure, InvalidParameter, UnsupportedInput
from .items import Item
from .scorers import Score
from .tflite_file import read_tflite
from .weights import WEIGHTS, read_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .tflite_network import QuantisedNetwork

__all__ = ["FeatureDistance", "MobileNetTask", "TorchvisionTask", "central_square", "quantised_network"]

CENTRAL_FRACTION = 0.875
_REVISION = 1


class MobileNetTask:
    """Top-1 of a shipped MobileNet on labelled pictures (``class_index`` 0 to 999 of ImageNet)."""

    unit = "top-1"
    kinds = frozenset({"image"})
    higher_is_better = True
    is_task = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = f"top-1 of {name.replace('mobilenet', 'MobileNet')}"

    def version(self) -> str:
        quantised_network(self.name)
        return f"{_REVISION} {WEIGHTS[self.name].sha256[:16]}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        network = quantised_network(self.name)
        scores = network.run(central_square(decoded, network.input_size[0]))[0]
        # row 0 of these networks is "background"
        return _top_one(item, int(scores[1:].argmax()), float(scores[1:].max()))


class FeatureDistance:
    """How far a reconstruction moves in a network's pooled features: distance over the original's length."""

    title = "feature distance"
    unit = ""
    kinds = frozenset({"image"})
    higher_is_better = False
    is_task = False
    name = "feature_distance"
    _network = "mobilenet-v2"

    def __init__(self) -> None:
        self._originals: OrderedDict[str, Any] = OrderedDict()

    def version(self) -> str:
        quantised_network(self._network)
        return f"{_REVISION} {WEIGHTS[self._network].sha256[:16]}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        key = str(item.path)
        if key not in self._originals:
            self._originals.clear()  # cells of one item follow one another
            self._originals[key] = self._features(original)
        reference = self._originals[key]
        distance = (self._features(decoded) - reference).norm() / reference.norm()
        return Score(value=float(distance))

    def _features(self, picture: Any) -> Any:
        network = quantised_network(self._network)
        return network.run(central_square(picture, network.input_size[0]), until="AVERAGE_POOL_2D").flatten()


class TorchvisionTask:
    """Top-1 of a classification model of torchvision, named ``torchvision:MODEL``, with its default weights."""

    unit = "top-1"
    kinds = frozenset({"image"})
    higher_is_better = True
    is_task = True

    def __init__(self, name: str) -> None:
        import torchvision

        self.name = name
        self.title = f"top-1 of {name}"
        self._model = name.partition(":")[2]
        known = torchvision.models.list_models(module=torchvision.models)
        if self._model not in known:
            raise InvalidParameter(
                f"torchvision has no classification model {self._model!r}{nearest(self._model, known)}"
            )

    def version(self) -> str:
        _torchvision_model(self._model)
        import torchvision

        weights = torchvision.models.get_model_weights(self._model).DEFAULT
        return f"{_REVISION} {weights.url.rpartition('/')[2]}"

    def score(self, item: Item, original: Any, decoded: Any) -> Score:
        import torch

        network, preprocess = _torchvision_model(self._model)
        with torch.inference_mode():
            picture = preprocess(torch.from_numpy(decoded.copy()).permute(2, 0, 1))
            scores = network(picture[None])[0].softmax(dim=0)
        return _top_one(item, int(scores.argmax()), float(scores.max()))


def central_square(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The central 7/8 of the shorter side, as a square of ``side`` pixels, bilinear with antialiasing, as is usual."""
    import numpy as np
    from PIL import Image

    height, width, _ = picture.shape
    square = min(height, width) * CENTRAL_FRACTION
    left, top = (width - square) / 2, (height - square) / 2
    box = (left, top, left + square, top + square)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR, box=box))


@lru_cache(maxsize=4)
def quantised_network(name: str) -> QuantisedNetwork:
    """The shipped network called ``name``; raises :class:`ExternalFailure` when its weights cannot be had."""
    from .tflite_network import QuantisedNetwork

    return QuantisedNetwork(read_tflite(read_weights(name)))


@lru_cache(maxsize=2)
def _torchvision_model(name: str) -> tuple[Any, Any]:
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        # the hash is part of the published name; only tensors are unpickled
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise ExternalFailure(f"weights unobtainable: {weights.url} does not answer: {error}") from error
    model = torchvision.models.get_model(name)
    model.load_state_dict(state)
    return model.eval(), weights.transforms(antialias=True)


def _top_one(item: Item, predicted: int, confidence: float) -> Score:
    if item.label is None:
        raise UnsupportedInput(f"{item.name} has no label")
    detail = {"predicted": predicted, "confidence": round(confidence, 4)}
    return Score(value=float(predicted == int(item.label)), detail=detail)
