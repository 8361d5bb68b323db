"""What each part of ``pc`` brings: code lengths with parts of the coding path left out, in integers and in floats."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..codecs.image.block_coding import StageBlocks
    from ..codecs.image.integer_network import IntegerNetwork

__all__ = ["measured_overhead", "measured_parts"]

PARTS = (
    ("network and circuit", False, False),
    ("and adaptive maps", True, False),
    ("and online regression", True, True),
)
"""Name, whether maps learn, and whether means are regressed."""


def measured_parts(pictures: list[NDArray[np.uint8]]) -> Iterator[dict[str, Any]]:
    """A row for each of :data:`PARTS`, before them three of the circuit alone in floating point.

    Rates are ideal bits per sub-pixel in one lane, without any file's frame; speeds are megabytes a second of
    processor time. ``pictures`` need sides that halve evenly, such as Kodak's.
    """
    from ..codecs.image.integer_network import load_integer_network
    from ..codecs.image.packaged_weights import packaged_network_path

    network = load_integer_network(packaged_network_path())
    subpixels = sum(pixels.size for pixels in pictures)
    nats = [_floating(pixels, network) for pixels in pictures]
    for name, place in (("sub-pixels independent, floating point", 0), ("circuit, floating point", 1)):
        bits = sum(pair[place] for pair in nats)
        yield {"part": name, "pictures": len(pictures), "ideal_bits_per_subpixel": round(bits / subpixels, 5)}
    for name, maps, regression in PARTS:
        _encoded(pictures[0], network, maps=maps, regression=regression)
        processor = time.process_time()
        bits = sum(_encoded(pixels, network, maps=maps, regression=regression) for pixels in pictures)
        seconds = time.process_time() - processor
        yield {
            "part": name,
            "pictures": len(pictures),
            "ideal_bits_per_subpixel": round(bits / subpixels, 5),
            "encode_cpu_mb_per_s": round(subpixels / 1e6 / seconds, 3),
        }


def measured_overhead(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """Bytes of a picture's file beyond the ideal code length of its symbols: container, hash, lanes' ends, rounding."""
    import codeckit

    from ..codecs.image.colour import to_ycocg
    from ..codecs.image.integer_network import load_integer_network
    from ..codecs.image.packaged_weights import packaged_network_path
    from ..codecs.image.pyramid_coding import encode_tile

    network = load_integer_network(packaged_network_path())
    with ThreadPoolExecutor(1) as pool:
        bits = encode_tile(to_ycocg(pixels), network, lanes=1, regression=True, pool=pool).bits
    size = len(codeckit.encode(pixels, codec="pc", preset="max"))
    return {
        "codec": "pc",
        "preset": "max",
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "file_bytes": size,
        "overhead_bytes": round(size - bits / 8),
    }


def _encoded(pixels: NDArray[np.uint8], network: IntegerNetwork, *, maps: bool, regression: bool) -> float:
    """Ideal bits of a picture."""
    from ..codecs.image.block_coding import BlockEncoder, Tools
    from ..codecs.image.colour import to_ycocg
    from ..codecs.image.pyramid_coding import code_planes

    planes = to_ycocg(pixels)
    tools = Tools.for_tile(planes.shape, network, regression=regression, maps=maps)
    with ThreadPoolExecutor(1) as pool:
        coder = BlockEncoder(1, 1, pool, tools)
        code_planes(planes[None], network, coder)
        return sum(bits for _, bits in coder.finish())


def _floating(pixels: NDArray[np.uint8], network: IntegerNetwork) -> tuple[float, float]:
    """Bits of a picture under the network's circuits in floating point: sub-pixels independent, and jointly."""
    import numpy as np

    from ..codecs.image.block_coding import BlockCoder, Tools
    from ..codecs.image.colour import to_ycocg
    from ..codecs.image.pyramid_coding import code_planes

    totals = [0.0, 0.0]

    class Measuring(BlockCoder):
        def code(self, index: int, stage: StageBlocks, values: NDArray[np.int32]) -> None:
            for place, nats in enumerate(_stage_nats(stage, values, network.shape.states)):
                totals[place] -= nats / math.log(2)

        def code_uniform(self, values: NDArray[np.int32], ranges: NDArray[np.int64]) -> None:
            for place in range(2):
                totals[place] += float(np.log2(ranges[:, 1] - ranges[:, 0] + 1).sum())

    planes = to_ycocg(pixels)
    with ThreadPoolExecutor(1) as pool:
        tools = Tools.for_tile(planes.shape, network, regression=False, maps=False)
        code_planes(planes[None], network, Measuring(1, 1, pool, tools))
    return totals[0], totals[1]


def _stage_nats(stage: StageBlocks, values: NDArray[np.int32], states: int) -> tuple[float, float]:
    """Log-likelihood of a stage's blocks: the product of its sub-pixels' marginal mixtures, and the circuit's own.

    The marginals keep the regression on earlier residuals; what they leave out is the latent state that sub-pixels
    share.
    """
    import numpy as np
    import torch

    from ..codecs.image.logistic_tables import FRACTION_BITS
    from ..codecs.image.mixture_likelihood import log_likelihood

    unit = 1 << FRACTION_BITS
    parameters = torch.from_numpy(stage.parameters.astype(np.float32) / unit)
    symbols = torch.from_numpy(values.astype(np.float32))
    means = torch.from_numpy((stage.means / unit).astype(np.float32))
    joint = float(log_likelihood(parameters, symbols, means, states=states).double().sum())
    cells = symbols.shape[1] * states
    coefficients = _lower_triangle(parameters[:, 2 * cells + states :], symbols.shape[1])
    centres = means + torch.einsum("bve,be->bv", coefficients, symbols - means)
    alone = 0.0
    for variable in range(symbols.shape[1]):
        own = slice(variable * states, (variable + 1) * states)
        row = [parameters[:, :cells][:, own], parameters[:, cells : 2 * cells][:, own]]
        row.append(parameters[:, 2 * cells : 2 * cells + states])
        one = slice(variable, variable + 1)
        likelihood = log_likelihood(
            torch.cat(row, 1), symbols[:, one].contiguous(), centres[:, one].contiguous(), states=states
        )
        alone += float(likelihood.double().sum())
    return alone, joint


def _lower_triangle(coefficients: torch.Tensor, variables: int) -> torch.Tensor:
    """Rows of regression coefficients as matrices ``[blocks, variables, variables]`` below the diagonal."""
    import torch

    rows, columns = torch.tril_indices(variables, variables, -1)
    matrices = coefficients.new_zeros(len(coefficients), variables, variables)
    matrices[:, rows, columns] = coefficients
    return matrices
