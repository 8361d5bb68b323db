"""``codeckit.vectors``: embedding stores beyond encode and decode: more vectors, search, and FAISS.

::

    from codeckit import vectors

    codeckit.encode(embeddings, "store.ck", codec="vectors", settings={"dtype": "float8_e4m3", "pca": "50%"})
    vectors.append("store.ck", batches)                          # arrays [n, D], or a stream of them

    with codeckit.open("store.ck") as reader:
        rows = reader.vectors[1000:2000]                         # float32 [1000, D]; only their blocks are read
        scores, rows = reader.search(queries, k=10, metric="cosine")

    index = vectors.to_faiss("store.ck")                         # needs: pip install 'codeckit[faiss]'
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .codecs.run_context import RunContext
from .codecs.vectors.search import Metric, Neighbours
from .formats.errors import ExternalFailure, InvalidParameter
from .formats.reader import ContainerSource
from .formats.vectors import open_source
from .memory import memory_errors
from .reading import open_file

__all__ = ["Metric", "Neighbours", "append", "search", "to_faiss"]

CODEC = "vectors"


@memory_errors()
def append(path: str | os.PathLike[str], vectors: Any, *, context: RunContext | None = None) -> int:
    """Add vectors to the file at ``path``; returns how many it has then.

    ``vectors`` is what ``codeckit.encode`` takes: a path, an array or tensor [n, D], or an iterable of them.
    Projection, levels and tables stay those of the file. It is replaced atomically: a crash leaves it as it was.

    Raises :class:`CorruptFile` and its kinds, :class:`UnsupportedInput`, :class:`InvalidParameter`,
    :class:`OutputFailure`.
    """
    from .codecs.vectors.appending import append_rows

    run = context or RunContext()
    with open_source(vectors, limits=run.limits) as source:
        return append_rows(path, source, CODEC, run)


@memory_errors()
def search(
    source: ContainerSource, queries: Any, *, k: int = 10, metric: Metric = "dot", context: RunContext | None = None
) -> Neighbours:
    """The k nearest vectors of a file for each of ``queries`` [Q, D]; see :meth:`VectorsView.search`."""
    with open_file(source, context=context) as reader:
        _require_vectors(reader.codec)
        found: Neighbours = reader.search(queries, k=k, metric=metric)
        return found


@memory_errors()
def to_faiss(
    source: ContainerSource, *, factory: str = "Flat", metric: Metric = "dot", context: RunContext | None = None
) -> Any:
    """A FAISS index with the decoded vectors of a file, its ids being their rows.

    ``factory`` is a description for ``faiss.index_factory`` (``Flat``, ``SQfp16``, ``IVF256,Flat``); what has to be
    trained is trained on vectors spread over the file. For ``cosine`` vectors are brought to unit length; so must be
    the queries. Blocks are added one by one.

    Raises :class:`ExternalFailure` without FAISS, :class:`InvalidParameter` for descriptions it does not know.
    """
    try:
        import faiss
    except ImportError as error:
        raise ExternalFailure(f"export needs FAISS ({error}); pip install 'codeckit[faiss]'") from error
    with open_file(source, context=context) as reader:
        _require_vectors(reader.codec)
        rows, dimensions = reader.shape
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(dimensions, factory, kind)
            if not index.is_trained:
                sample = np.arange(min(rows, _TRAINING_ROWS)) * rows // max(1, min(rows, _TRAINING_ROWS))
                index.train(_as_stored(reader.vectors[sample], metric))
        except RuntimeError as error:
            raise InvalidParameter(f"FAISS refuses factory={factory!r}: {error}") from error
        for _, block in reader.vectors.blocks():
            index.add(_as_stored(block, metric))
        return index


_TRAINING_ROWS = 1 << 16


def _as_stored(rows: np.ndarray[Any, np.dtype[np.float32]], metric: Metric) -> np.ndarray[Any, np.dtype[np.float32]]:
    if metric != "cosine":
        return rows
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1).astype(np.float32)


def _require_vectors(codec: str) -> None:
    if codec != CODEC:
        raise InvalidParameter(f"the file is of codec {codec!r}, which holds no vectors")
