"""Search over compressed vectors gives the same bits on CUDA as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import codeckit

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("metric", ["dot", "cosine", "l2"])
def test_search_on_cuda_equals_search_on_the_cpu(metric: str) -> None:
    generator = np.random.default_rng(2)
    vectors = generator.standard_normal((20_000, 96)).astype(np.float32)
    queries = generator.standard_normal((300, 96)).astype(np.float32)
    data = codeckit.encode(vectors, codec="vectors", settings={"dtype": "int8", "block_rows": 4096})
    found = []
    for device in ("cpu", "cuda"):
        with codeckit.open(data, device=device) as reader:
            found.append(reader.search(queries, k=25, metric=metric))
    np.testing.assert_array_equal(found[0].rows, found[1].rows)
    np.testing.assert_array_equal(found[0].scores, found[1].scores)
