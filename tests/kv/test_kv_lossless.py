"""``kv-lossless`` returns every bit, whatever the bits are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import codeckit
from codeckit import kv
from codeckit.formats.tensors import Tensor

from . import synthetic

BITS = {"F16": np.uint16, "BF16": np.uint16, "F32": np.uint32}


def cache_of_bits(bits: NDArray[Any], dtype: str) -> kv.Cache:
    """[2, heads, tokens, width] of any bits as one layer."""
    _, heads, tokens, width = bits.shape
    row = tuple(kv.PartTable(role=role, heads=heads, width=width, dtype=dtype) for role in ("key", "value"))
    stored = bits.view({"F16": np.float16, "BF16": np.uint16, "F32": np.float32}[dtype])
    parts = {(0, part.role): Tensor(dtype=dtype, data=stored[n]) for n, part in enumerate(row)}
    return kv.Cache(table=kv.CacheTable(layers=(kv.LayerTable(parts=row),), tokens=tokens, rotary=None), parts=parts)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(sorted(BITS)), chunk_tokens=st.integers(1, 9))
def test_any_bits_come_back(data: st.DataObject, dtype: str, chunk_tokens: int) -> None:
    shape = data.draw(st.tuples(st.just(2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 5)))
    bits = data.draw(hnp.arrays(BITS[dtype], shape))
    cache = cache_of_bits(bits, dtype)
    encoded = codeckit.encode(cache, codec="kv-lossless", settings={"chunk_tokens": str(chunk_tokens)})
    found = kv.decode(encoded)
    for place, tensor in cache.parts.items():
        assert found.parts[place].data.tobytes() == tensor.data.tobytes()


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_ranges_equal_the_whole(dtype: str) -> None:
    cache = synthetic.cache(dtype=dtype, tokens=100)
    data = codeckit.encode(cache, codec="kv-lossless", settings={"chunk_tokens": "30"})
    part = kv.decode(data, layers=(2, 4), tokens=(29, 61))
    for number in (0, 1):
        for role in ("key", "value"):
            wanted = cache.parts[number + 2, role].data[:, 29:61]
            np.testing.assert_array_equal(part.parts[number, role].data, wanted)


def test_every_cut_and_every_flip_is_noticed() -> None:
    data = codeckit.encode(synthetic.cache(tokens=20, layers=1), codec="kv-lossless")
    for length in range(0, len(data), 61):
        with pytest.raises(codeckit.CodecError):
            kv.decode(data[:length])
    for place in range(0, len(data), 61):
        damaged = bytearray(data)
        damaged[place] ^= 4
        with pytest.raises(codeckit.CodecError):
            kv.decode(bytes(damaged))
