"""From the quantised data of a file to pictures: the one path that encode's quality report and decode share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from .frame_workers import FrameWorkers
from .quantiser import dequantise
from .torch_runtime import exact_float32, use_channels_last

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ..run_context import RunContext
    from .network_structure import NetworkStructure
    from .quantiser import QuantisedTensor

__all__ = ["Reconstruction"]

_CUDA_BATCH = 8


class Reconstruction:
    """Makes pictures from a decoder's quantised parameters and the clip's embeddings [T, C, rows, columns], if any.

    The network always sees batches of one size (``batch``; 1 on a CPU, 8 on CUDA) and on a CPU one core each, so a
    picture depends neither on which others are decoded with it nor on the number of threads. Pictures are computed in
    float32: the last bit may differ between devices.
    """

    def __init__(
        self,
        structure: NetworkStructure,
        parameters: Sequence[QuantisedTensor],
        embeddings: QuantisedTensor | None,
        *,
        size: tuple[int, int],
        timestamps: tuple[int, ...],
        context: RunContext,
        batch: int | None = None,
    ) -> None:
        self.device = context.torch_device()
        self.timestamps = timestamps
        self._threads = context.threads
        self._height, self._width = size
        self._batch = batch or (_CUDA_BATCH if self.device == "cuda" else 1)
        with torch.device("meta"):
            decoder = structure.make_decoder()
        names = [name for name, _ in decoder.named_parameters()]
        values = (torch.from_numpy(np.array(dequantise(tensor))) for tensor in parameters)
        decoder.load_state_dict(dict(zip(names, values, strict=True)), assign=True)
        stored = None if embeddings is None else torch.from_numpy(dequantise(embeddings))
        self._inputs = decoder.inputs(len(timestamps), stored)
        self._decoder = use_channels_last(decoder.to(self.device)).eval()

    def __len__(self) -> int:
        return len(self._inputs)

    def batches(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """uint8 RGB [N, H, W, 3] for the frames ``indices``, in that order, a batch at a time."""
        starts = range(0, len(indices), self._batch)
        with FrameWorkers(self._threads, self.device) as workers:
            yield from workers.map(self._pictures, (list(indices[start : start + self._batch]) for start in starts))

    def _pictures(self, indices: list[int]) -> NDArray[np.uint8]:
        padding = [indices[-1]] * (self._batch - len(indices))
        inputs = self._inputs[indices + padding].to(self.device)
        with torch.inference_mode(), exact_float32(self.device):
            output = self._decoder(inputs.contiguous(memory_format=torch.channels_last))
            visible = output[: len(indices), :, : self._height, : self._width]
            rounded = visible.mul(255).round().clamp(0, 255).to(torch.uint8)
            pictures: NDArray[np.uint8] = rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pictures
