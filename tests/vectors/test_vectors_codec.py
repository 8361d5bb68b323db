"""The codec ``vectors`` from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import codeckit
from codeckit import CodecError, UnsupportedInput

from . import synthetic

CODEC = "vectors"
DTYPES = ["float32", "float16", "bfloat16", "float8_e4m3", "float8_e5m2", "int8", "int6", "int4", "binary"]


def encode(vectors: object, **settings: object) -> bytes:
    return codeckit.encode(vectors, codec=CODEC, settings=settings)


def test_npy_to_file_to_npy(tmp_path: Path) -> None:
    vectors = synthetic.embeddings(3000)
    np.save(tmp_path / "in.npy", vectors)
    report = codeckit.encode(tmp_path / "in.npy", tmp_path / "store.ck")
    assert (report.codec, report.figures["rows"]) == (CODEC, 3000)
    assert report.figures["bytes_per_vector"] == pytest.approx((tmp_path / "store.ck").stat().st_size / 3000, abs=1e-3)
    codeckit.decode(tmp_path / "store.ck", tmp_path / "out.npy")
    decoded = np.load(tmp_path / "out.npy", allow_pickle=False)
    assert (decoded.dtype, decoded.shape) == (np.dtype("<f4"), (3000, 32))
    assert (np.sum(vectors * decoded, axis=1) / np.linalg.norm(decoded, axis=1)).min() > 0.998


@pytest.mark.parametrize(
    ("dtype", "torch_name"),
    [
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("float8_e4m3", "float8_e4m3fn"),
        ("float8_e5m2", "float8_e5m2"),
    ],
)
def test_floats_are_rounded_as_torch_rounds_them(dtype: str, torch_name: str) -> None:
    import torch

    generator = np.random.default_rng(5)
    kind = getattr(torch, torch_name)
    every = torch.arange(1 << 8 * kind.itemsize, dtype=torch.int32)
    numbers = every.to(torch.uint8).view(kind) if kind.itemsize == 1 else every.to(torch.int16).view(kind)
    exact = numbers.double().numpy()
    exact = np.unique(exact[np.isfinite(exact)])
    midpoints = (exact[1:] + exact[:-1]) / 2  # ties
    wide = generator.standard_normal(20_000) * 10.0 ** generator.uniform(-9, 2, 20_000)
    values = np.concatenate([exact, midpoints, wide, [0.0, -0.0]]).astype(np.float32)
    values = values[np.abs(values) <= exact.max()]
    values = values[: len(values) // 16 * 16].reshape(-1, 16)
    decoded = codeckit.decode(encode(values, dtype=dtype, scale="none"))
    expected = torch.from_numpy(values).to(kind).float().numpy()
    np.testing.assert_array_equal(decoded.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("settings", [{"dtype": dtype} for dtype in DTYPES] + [{"pca": "50%"}, {"norms": "apart"}])
def test_threads_batches_and_selections_give_the_same_bits(settings: dict[str, str]) -> None:
    vectors = synthetic.embeddings(1500)
    runs = [codeckit.RunContext(threads=threads) for threads in (1, 3)]
    settings = {**settings, "block_rows": 256, "sample": 1500}
    data, other = (codeckit.encode(vectors, codec=CODEC, settings=settings, context=run) for run in runs)
    assert data == other
    batches = [vectors[:1], vectors[1:700], vectors[700:700], vectors[700:]]
    streamed = codeckit.encode(iter(batches), codec=CODEC, settings=settings)
    decoded = codeckit.decode(data, context=runs[0])
    for again in (codeckit.decode(data, context=runs[1]), codeckit.decode(streamed)):
        np.testing.assert_array_equal(again.view(np.uint32), decoded.view(np.uint32))
    with codeckit.open(data) as reader:
        rows = [1499, 3, 3, 900, -2]
        np.testing.assert_array_equal(reader.vectors[rows], decoded[rows])
        np.testing.assert_array_equal(reader.vectors[200:1100:7], decoded[200:1100:7])
        np.testing.assert_array_equal(reader.vectors[17], decoded[17])
        assert reader.vectors.shape == (1500, 32)


def test_the_lossless_choice_is_exact_and_smaller() -> None:
    vectors = synthetic.embeddings(4000, unit=False)
    data = codeckit.encode(vectors, codec=CODEC, preset="exact")
    np.testing.assert_array_equal(codeckit.decode(data), vectors)
    assert len(data) < 0.9 * vectors.nbytes


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("settings", [{}, {"pca": "4"}, {"dtype": "int8"}, {"dtype": "binary"}, {"norms": "apart"}])
def test_few_rows(rows: int, settings: dict[str, str]) -> None:
    vectors = synthetic.embeddings(rows, 8)
    data = encode(vectors, **settings)
    assert codeckit.decode(data).shape == (rows, 8)
    with codeckit.open(data) as reader:
        assert reader.vectors[:].shape == (rows, 8)


def test_zero_vectors_stay_zero_where_lengths_are_kept_apart() -> None:
    vectors = synthetic.embeddings(50, 8)
    vectors[[0, 7]] = 0
    for dtype in DTYPES:
        decoded = codeckit.decode(encode(vectors, dtype=dtype, norms="apart", pca="4"))
        assert not decoded[[0, 7]].any()
        assert decoded[1].any()


def test_odd_arrays_are_taken_as_what_they_mean() -> None:
    vectors = synthetic.embeddings(300, 24)
    plain = codeckit.decode(encode(vectors, dtype="float32"))
    for odd in (vectors.astype(">f4"), np.asfortranarray(vectors), np.repeat(vectors, 2, axis=0)[::2], vectors[:, :]):
        np.testing.assert_array_equal(codeckit.decode(encode(odd, dtype="float32")), plain)
    half = vectors.astype(np.float16)
    np.testing.assert_array_equal(codeckit.decode(encode(half, dtype="float16")), half.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 4321])
def test_a_row_that_is_not_finite_is_named(value: float, row: int) -> None:
    vectors = synthetic.embeddings(5000, 8)
    vectors[row, 3] = value
    for source in (vectors, iter([vectors[:100], vectors[100:]])):
        with pytest.raises(UnsupportedInput, match=f"row {row:,} holds -?(nan|inf) in dimension 3"):
            encode(source)


def test_large_finite_values_are_no_error() -> None:
    vectors = np.full((40, 8), 3e38, np.float32)
    np.testing.assert_array_equal(codeckit.decode(encode(vectors, dtype="float32")), vectors)


def test_changing_dimensions_are_refused() -> None:
    with pytest.raises(UnsupportedInput, match="batch 1 has 9 dimensions, the batches before it have 8"):
        encode(iter([np.zeros((3, 8), np.float32), np.zeros((3, 9), np.float32)]))


@pytest.mark.parametrize("bad", [np.zeros((2, 3, 4), np.float32), np.zeros((4, 4), np.int32), np.zeros((4, 4)), 5, []])
def test_what_is_no_matrix_of_floats_is_refused(bad: object) -> None:
    with pytest.raises(CodecError):
        encode(bad)


@pytest.mark.parametrize(
    "settings",
    [
        {"pca": "0"},
        {"pca": "33"},
        {"pca": "1.5"},
        {"pca": "all"},
        {"pca": "4", "random_projection": "4"},
        {"dtype": "float8"},
        {"rescoring_bits": "2"},
        {"block_rows": "0"},
        {"projection": "missing.safetensors"},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(codeckit.InvalidParameter):
        encode(synthetic.embeddings(100), **settings)


def test_truncated_inputs_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", synthetic.embeddings(500))
    whole = (tmp_path / "in.npy").read_bytes()
    for size in (0, 5, 60, 127, 128, 5000, len(whole) - 1):
        (tmp_path / "cut.npy").write_bytes(whole[:size])
        with pytest.raises(CodecError):
            codeckit.encode(tmp_path / "cut.npy", codec=CODEC)


def test_truncated_files_are_refused() -> None:
    data = encode(synthetic.embeddings(500), block_rows=100)
    for size in range(0, len(data), 97):
        with pytest.raises(CodecError):
            codeckit.decode(data[:size])


def test_float8_scales_values_only_where_it_must() -> None:
    vectors = synthetic.embeddings(500)
    exponents = {
        factor: codeckit.info(encode(vectors * np.float32(factor))).parameters["exponent"] for factor in (1, 1e-4, 1e6)
    }
    assert exponents[1] == 0
    assert exponents[1e-4] > 8
    assert exponents[1e6] < -8
    for factor in (1e-4, 1e6):
        scaled = vectors * np.float32(factor)
        decoded = codeckit.decode(encode(scaled))
        assert np.linalg.norm(decoded - scaled) < 0.05 * np.linalg.norm(scaled)


def test_values_beyond_the_sample_are_set_to_the_largest_and_counted() -> None:
    vectors = synthetic.embeddings(400, 8)
    vectors[399, 0] = 1e9
    notes: list[str] = []
    context = codeckit.RunContext(warn=notes.append)
    data = codeckit.encode(iter([vectors]), codec=CODEC, settings={"sample": 100}, context=context)
    assert len(notes) == 1
    assert "1 values are beyond the largest float8_e4m3" in notes[0]
    assert codeckit.decode(data)[399, 0] == 448


def test_projections_sum_in_order_without_fused_products() -> None:
    """What makes float32 results the same everywhere; 7 and 13 leave remainders in every loop."""
    from codeckit.codecs.vectors.quantiser import project_rows

    generator = np.random.default_rng(8)
    for rows, inner, outer in ((1, 7, 5), (13, 13, 7), (37, 64, 48)):
        values = generator.standard_normal((rows, inner)).astype(np.float32)
        matrix = generator.standard_normal((inner, outer)).astype(np.float32)
        centre, offset = (generator.standard_normal(size).astype(np.float32) for size in (inner, outer))
        expected = np.tile(offset, (rows, 1))
        for i in range(inner):
            expected = expected + (values[:, i : i + 1] - centre[i]) * matrix[i]
        np.testing.assert_array_equal(project_rows(values, centre, matrix, offset), expected)
        np.testing.assert_array_equal(project_rows(values[-1:], centre, matrix, offset), expected[-1:])
