"""Where vectors come from: files of several formats, tensors, and their batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import codeckit
from codeckit import CodecError, UnsupportedInput

from . import synthetic

SETTINGS = {"dtype": "float32"}


def through_file(path: Path | str) -> np.ndarray:
    return codeckit.decode(codeckit.encode(path, codec="vectors", settings=SETTINGS))


@pytest.fixture
def values() -> np.ndarray:
    return synthetic.embeddings(5000, 12)


@pytest.mark.parametrize("layout", ["<f4", ">f4", "<f2", "F"])
def test_npy(tmp_path: Path, values: np.ndarray, layout: str) -> None:
    stored = np.asfortranarray(values) if layout == "F" else values.astype(layout)
    np.save(tmp_path / "in.npy", stored)
    np.testing.assert_array_equal(through_file(tmp_path / "in.npy"), stored.astype(np.float32))


def test_safetensors_and_back(tmp_path: Path, values: np.ndarray) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    half = torch.from_numpy(values).bfloat16()
    save_file(
        {"b": half, "ids": torch.arange(5000), "a": torch.from_numpy(values[:7].copy())}, tmp_path / "in.safetensors"
    )
    with pytest.raises(UnsupportedInput, match="name it as FILE#NAME"):
        through_file(tmp_path / "in.safetensors")
    np.testing.assert_array_equal(through_file(f"{tmp_path}/in.safetensors#b"), half.float().numpy())
    codeckit.encode(f"{tmp_path}/in.safetensors#a", tmp_path / "a.ck", codec="vectors", settings=SETTINGS)
    codeckit.decode(tmp_path / "a.ck", tmp_path / "out.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "out.safetensors")["vectors"].numpy(), values[:7])


@pytest.mark.parametrize("format_name", ["parquet", "arrow"])
def test_columns(tmp_path: Path, values: np.ndarray, format_name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    half = values.astype(np.float16)
    table = pa.table(
        {
            "id": pa.array(np.arange(5000)),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 12),
            "half": pa.array(list(half), pa.list_(pa.float16())),
        }
    )
    path = tmp_path / f"in.{format_name}"
    if format_name == "parquet":
        parquet.write_table(table, path, row_group_size=700)
    else:
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=700)
    with pytest.raises(UnsupportedInput, match="FILE#COLUMN"):
        through_file(path)
    np.testing.assert_array_equal(through_file(f"{path}#embedding"), values)
    np.testing.assert_array_equal(through_file(f"{path}#half"), half.astype(np.float32))
    with pytest.raises(codeckit.InvalidParameter, match="'id' is no column"):
        through_file(f"{path}#id")


def test_columns_with_missing_or_ragged_vectors_are_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for rows in ([[1.0, 2.0], None], [[1.0, 2.0], [1.0]], [[1.0, None]], [[1.0, 2.0]] * 5000 + [[1.0, 2.0, 3.0]]):
        parquet.write_table(pa.table({"v": pa.array(rows, pa.list_(pa.float32()))}), tmp_path / "in.parquet")
        with pytest.raises(UnsupportedInput):
            through_file(tmp_path / "in.parquet")
    (tmp_path / "in.parquet").write_bytes((tmp_path / "in.parquet").read_bytes()[:-30])
    with pytest.raises(CodecError):
        through_file(tmp_path / "in.parquet")


def test_tensors(values: np.ndarray) -> None:
    import torch

    tensor = torch.from_numpy(values)
    for given in (tensor, tensor.T.contiguous().T, iter([tensor[:10], tensor[10:]]), {"v": tensor}):
        decoded = codeckit.decode(codeckit.encode(given, codec="vectors", settings=SETTINGS))
        np.testing.assert_array_equal(decoded, values)


def test_float_matrices_need_no_codec_name(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "in.npy", values)
    for given in (values, tmp_path / "in.npy"):
        assert codeckit.probe(given) == "vectors"
    assert codeckit.probe(np.zeros((4, 4), np.uint8)) == "image"


def test_a_projection_of_ones_own(tmp_path: Path, values: np.ndarray) -> None:
    from safetensors.numpy import save_file

    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 5)))[0].T
    mean = values.mean(axis=0)
    path = tmp_path / "basis.safetensors"
    save_file({"mean": mean, "components": np.ascontiguousarray(basis, np.float32)}, path)
    decoded = codeckit.decode(
        codeckit.encode(values, codec="vectors", settings={"dtype": "float32", "projection": str(path)})
    )
    np.testing.assert_allclose(decoded, mean + (values - mean) @ basis.T @ basis, atol=1e-5)
    save_file({"mean": mean, "components": np.ones((5, 12), np.float32)}, path)
    with pytest.raises(codeckit.InvalidParameter, match="not orthonormal"):
        codeckit.encode(values, codec="vectors", settings={"projection": str(path)})


def test_explained_variance_chooses_the_dimensions(values: np.ndarray) -> None:
    for share in (0.5, 0.9, 1.0):
        centred = values - values.mean(axis=0)
        variances = np.linalg.svd(centred.astype(np.float64), compute_uv=False) ** 2
        needed = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share - 1e-12)) + 1
        data = codeckit.encode(values, codec="vectors", settings={"pca": str(share)})
        assert codeckit.info(data).description["stored_dimensions"] == min(needed, 12)
