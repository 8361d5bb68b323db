"""An output is what its name says, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeckit.formats.errors import InvalidParameter
from codeckit.formats.limits import DEFAULT_LIMITS
from codeckit.formats.tensors import TensorSink
from codeckit.formats.vector_sinks import VectorSink


@pytest.mark.parametrize("sink", [TensorSink, VectorSink])
def test_arrays_are_not_written_under_the_name_of_something_else(
    sink: type[TensorSink | VectorSink], tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameter, match=r"\.npy or \.safetensors, not as \.png"):
        sink(tmp_path / "picture.png", overwrite=False, limits=DEFAULT_LIMITS)
    assert not list(tmp_path.iterdir())
