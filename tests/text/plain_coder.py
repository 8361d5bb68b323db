"""The block coder as plain Python: ``python plain_coder.py FILE PRESET`` prints the code of a file in hexadecimal.

Numba must be told to compile nothing (``NUMBA_DISABLE_JIT=1``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from codeckit.codecs.text import context_inputs, final_maps, memory_inputs, mixer
from codeckit.codecs.text.block_coding import Prior, encode_mixed
from codeckit.codecs.text.byte_model import load_byte_model
from codeckit.codecs.text.presets import preset_by_name


def plain_dot(weights: Any, row: int, inputs: Any, count: int) -> int:
    """The mixer's sum in 64 bits, which cannot overflow."""
    terms = weights[row : row + count].astype(np.int64) * inputs[:count] >> 8
    return min(2047, max(-2047, int(terms.sum()) >> 8))


def plain_train(weights: Any, row: int, inputs: Any, count: int, step: int) -> None:
    """The mixer's step in 64 bits."""
    moved = weights[row : row + count] + (inputs[:count].astype(np.int64) * int(step) + 512 >> 10)
    weights[row : row + count] = np.clip(moved, -524288, 524287)


def main() -> None:
    """Replace what only exists in native code, and code."""
    for module in (context_inputs, final_maps, memory_inputs):
        module.prefetch = lambda array, index: None
    mixer._dot, mixer._train = plain_dot, plain_train
    np.seterr(over="ignore")  # hashes wrap
    coded = encode_mixed(Path(sys.argv[1]).read_bytes(), preset_by_name(sys.argv[2]), Prior(load_byte_model(), "prose"))
    print((coded or b"").hex())


if __name__ == "__main__":
    main()
