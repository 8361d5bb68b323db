"""Latents to bytes and back, tile by tile, through the tables of a factorised prior or of a hyperprior.

A tile's payload is the symbol stream of its side information, if the network has any, and that of its latents. Both run
over channels, rows and columns in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...entropy import encode_symbols, read_symbols, scale_tables
from ...formats.errors import CorruptFile
from .exact_synthesis import ExactSynthesis
from .model_file import FRACTION_BITS, Model
from .windows import Grid, Window

if TYPE_CHECKING:
    from ..run_context import RunContext

__all__ = ["LatentCoder", "Latents"]

_STEP, _SIDE_STEP = 16, 64
_SIDE_MARGIN = 2
"""Side information around a tile's on which its tables depend."""
_LARGEST = (1 << 15) - 1


@dataclass(frozen=True, eq=False)
class Latents:
    """Symbols, int16 ``[channels, rows, columns]``, those of the side information, and the latents' means in 1/1024."""

    symbols: NDArray[np.int16]
    side: NDArray[np.int16] | None
    means: NDArray[np.int32] | None

    def values(self, model: Model) -> NDArray[np.float32]:
        """What the symbols stand for, before the inverse gains: float32."""
        values = self.symbols.astype(np.float32)
        if self.side is None:
            medians = model.tensors["prior.medians"].astype(np.float32) / (1 << FRACTION_BITS)
            values += medians[:, None, None]
        if self.means is not None:
            values += self.means.astype(np.float32) / (1 << FRACTION_BITS)
        return values


class LatentCoder:
    """Codes the latents of one picture."""

    def __init__(self, model: Model, grid: Grid, context: RunContext) -> None:
        self._model = model
        self._grid = grid
        self._context = context
        self._synthesis = ExactSynthesis.of(model) if model.has_hyperprior else None

    def encode(self, latents: NDArray[np.float32]) -> tuple[list[bytes], Latents]:
        """The payload of every tile of ``latents`` ``[channels, rows, columns]``, and what they hold."""
        if self._synthesis is None:
            symbols = self._rounded(latents)
            return [self._by_prior(symbols[:, *one.inner]) for one in self._windows(_STEP)], Latents(
                symbols, None, None
            )
        from .tiled_transforms import hyper_analyse

        side = self._rounded(hyper_analyse(latents, self._model, self._grid, self._context))
        coded = self._empty(side)
        payloads = []
        for window, within in zip(self._windows(_STEP), self._windows(_SIDE_STEP), strict=True):
            numbers, means = self._tables_of(side, within)
            own = latents[:, *window.inner]
            symbols = _held(own if means is None else own - means.astype(np.float32) / (1 << FRACTION_BITS))
            coded.symbols[:, *window.inner] = symbols
            if coded.means is not None and means is not None:
                coded.means[:, *window.inner] = means
            stream = encode_symbols(symbols, scale_tables("gaussian"), numbers)
            payloads.append(self._by_prior(side[:, *within.inner]) + stream)
        return payloads, coded

    def decode(self, payloads: Sequence[bytes]) -> Latents:
        """Invert :meth:`encode`; raises :class:`CorruptFile`."""
        windows = self._windows(_STEP)
        if self._synthesis is None:
            symbols = np.empty((self._model.channels, *self._sides(_STEP)), np.int16)
            for number, (window, payload) in enumerate(zip(windows, payloads, strict=True)):
                symbols[:, *window.inner], end = self._prior_symbols(payload, symbols[:, *window.inner].shape, number)
                _check_end(payload, end, number)
            return Latents(symbols, None, None)
        side = np.empty((self._model.side_channels, *self._sides(_SIDE_STEP)), np.int16)
        within = self._windows(_SIDE_STEP)
        starts = []
        for number, (window, payload) in enumerate(zip(within, payloads, strict=True)):
            side[:, *window.inner], start = self._prior_symbols(payload, side[:, *window.inner].shape, number)
            starts.append(start)
        coded = self._empty(side)
        for number, (window, payload) in enumerate(zip(windows, payloads, strict=True)):
            numbers, means = self._tables_of(side, within[number])
            values, end = read_symbols(payload, starts[number], scale_tables("gaussian"), numbers)
            _check_end(payload, end, number)
            coded.symbols[:, *window.inner] = _checked(values, number)
            if coded.means is not None and means is not None:
                coded.means[:, *window.inner] = means
            self._context.report("decode", number + 1, len(windows), unit="tiles")
        return coded

    def _tables_of(self, side: NDArray[np.int16], window: Window) -> tuple[NDArray[np.uint8], NDArray[np.int32] | None]:
        """Table numbers and means of a tile's latents."""
        if self._synthesis is None:
            raise TypeError("a factorised prior has no side information")
        numbers, means = self._synthesis(side[:, *window.outer])
        kept = window.scaled(_SIDE_STEP // _STEP).kept
        return numbers[:, *kept], None if means is None else means[:, *kept]

    def _rounded(self, values: NDArray[np.float32]) -> NDArray[np.int16]:
        """Symbols of the factorised prior: differences from its medians."""
        medians = self._model.tensors["prior.medians"].astype(np.float32) / (1 << FRACTION_BITS)
        return _held(values - medians[:, None, None])

    def _by_prior(self, symbols: NDArray[np.int16]) -> bytes:
        return encode_symbols(symbols, self._model.prior_tables, _channel_numbers(symbols.shape))

    def _prior_symbols(self, payload: bytes, shape: tuple[int, ...], number: int) -> tuple[NDArray[np.int16], int]:
        values, end = read_symbols(payload, 0, self._model.prior_tables, _channel_numbers(shape))
        return _checked(values, number), end

    def _windows(self, step: int) -> list[Window]:
        return self._grid.windows(step, _SIDE_MARGIN if step == _SIDE_STEP else 0)

    def _sides(self, step: int) -> tuple[int, int]:
        height, width = self._grid.padded
        return height // step, width // step

    def _empty(self, side: NDArray[np.int16]) -> Latents:
        shape = (self._model.channels, *self._sides(_STEP))
        with_means = self._model.architecture == "mean-scale"
        return Latents(np.empty(shape, np.int16), side, np.empty(shape, np.int32) if with_means else None)


def _channel_numbers(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The table of each symbol: that of its channel."""
    return np.broadcast_to(np.arange(shape[0])[:, None, None], shape)


def _held(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Rounded to nearest, halves to even, and held to 16 bits."""
    return np.clip(np.rint(values), -_LARGEST, _LARGEST).astype(np.int16)


def _checked(values: NDArray[np.int64], tile: int) -> NDArray[np.int16]:
    if values.size and (int(values.min()) < -_LARGEST or int(values.max()) > _LARGEST):
        raise CorruptFile(f"tile {tile}: a latent does not fit 16 bits")
    return values.astype(np.int16)


def _check_end(payload: bytes, end: int, tile: int) -> None:
    if end != len(payload):
        raise CorruptFile(f"tile {tile}: {len(payload) - end} bytes left over")
