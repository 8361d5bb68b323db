"""Asking a circuit about grey images: how likely they are, what a pixel may be, samples, missing pixels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats.errors import InvalidParameter
from .circuit import MISSING
from .grey_classes import GREYS
from .integer_circuit import IntegerCircuit, load_circuit
from .packaged_weights import packaged_circuit_path

__all__ = ["GreyModel"]

_LOG_2 = math.log(2.0)


class GreyModel:
    """A distribution over grey images of one size. Images are uint8 ``[count, height, width]``.

    ``observed`` is bool of the same shape; a pixel that is not observed is summed out, exactly.
    """

    def __init__(self, circuit: IntegerCircuit) -> None:
        self._circuit = circuit
        self._tree = circuit.to_float()
        classes = circuit.classes
        # probability of each grey value given its class
        self._within = torch.zeros(classes.count, GREYS)
        grey = torch.arange(GREYS)
        numbers = torch.from_numpy(classes.class_of_grey.astype(np.int64))
        shares = torch.from_numpy(classes.frequencies.astype(np.float32)) / (1 << 24)
        self._within[numbers, grey] = shares
        self._log_within = torch.log(shares)

    @classmethod
    def load(cls, path: Path | None = None) -> GreyModel:
        """The model in ``path``, or the packaged one for handwritten digits."""
        return cls(load_circuit(path or packaged_circuit_path()))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self._circuit.height, self._circuit.width

    def log_likelihood(
        self, images: NDArray[np.uint8], observed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Natural log-likelihood of the observed pixels of each image: float64 ``[count]``."""
        classes, known = self._classes(images, observed)
        within = torch.where(known, self._log_within[self._flat(images)], 0.0).sum(1)
        result: NDArray[np.float64] = (self._tree.log_likelihood(classes) + within.double()).numpy()
        return result

    def bits_per_pixel(self, images: NDArray[np.uint8]) -> float:
        """Mean code length of ``images`` under the model, without file overhead."""
        height, width = self.size
        return float(-self.log_likelihood(images).mean() / (height * width * _LOG_2))

    def conditional(self, images: NDArray[np.uint8], observed: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Distribution of every pixel given the observed others: float32 ``[count, height, width, 256]``."""
        classes, _ = self._classes(images, observed)
        greys = self._tree.conditional(classes) @ self._within
        result: NDArray[np.float32] = greys.reshape(len(images), *self.size, GREYS).numpy()
        return result

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        images: NDArray[np.uint8] | None = None,
        observed: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw ``count`` images, or complete ``images`` (``count`` of them) where they are not observed."""
        if count < 1 or (images is None) != (observed is None):
            raise InvalidParameter("sample needs a positive count, and images and observed together")
        generator = torch.Generator().manual_seed(seed)
        shape = (count, *self.size)
        given = np.zeros(shape, np.uint8) if images is None else images
        known = np.zeros(shape, np.bool_) if observed is None else observed
        if len(given) != count:
            raise InvalidParameter(f"count is {count}, but there are {len(given)} images to complete")
        classes, mask = self._classes(given, known)
        drawn = self._tree.sample(classes, generator)
        greys = torch.multinomial(self._within[drawn.reshape(-1)], 1, generator=generator).view_as(drawn)
        return self._filled(given, mask, greys)

    def inpaint(self, images: NDArray[np.uint8], observed: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """``images`` with each missing pixel set to the median of its distribution given the observed ones."""
        _, known = self._classes(images, observed)
        cumulative = np.cumsum(self.conditional(images, observed), axis=3)
        median = (cumulative < 0.5).sum(3).clip(0, GREYS - 1)
        return self._filled(images, known, torch.from_numpy(median.reshape(len(images), -1)))

    def _classes(
        self, images: NDArray[np.uint8], observed: NDArray[np.bool_] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Classes with ``MISSING`` where not observed, and what is observed: ``[count, variables]``."""
        mask = np.ones(images.shape, np.bool_) if observed is None else observed
        if images.dtype != np.uint8 or images.shape[1:] != self.size or mask.shape != images.shape:
            raise InvalidParameter(
                f"expected uint8 [count, {self.size[0]}, {self.size[1]}] and a mask of that shape, "
                f"got {images.dtype} {list(images.shape)} and {list(mask.shape)}"
            )
        numbers = torch.from_numpy(self._circuit.classes.class_of_grey.astype(np.int64))
        known = torch.from_numpy(np.ascontiguousarray(mask).reshape(len(images), -1))
        return torch.where(known, numbers[self._flat(images)], MISSING), known

    def _flat(self, images: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(images).reshape(len(images), -1).astype(np.int64))

    def _filled(self, images: NDArray[np.uint8], known: torch.Tensor, greys: torch.Tensor) -> NDArray[np.uint8]:
        filled: NDArray[Any] = torch.where(known, self._flat(images), greys).numpy()
        return filled.astype(np.uint8).reshape(images.shape)
