"""``codec bench video``: rates are files that decode to the very integers, cells are not measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codeckit
from codeckit import InvalidParameter, RunContext
from codeckit.benchmarks.hnerv_huffman import read_huffman_file, write_huffman_file
from codeckit.benchmarks.huffman import decode_huffman, encode_huffman
from codeckit.benchmarks.video_bench import bench
from codeckit.benchmarks.video_cells import plan_cells
from codeckit.benchmarks.video_curves import bd_rows, main
from codeckit.benchmarks.video_presets import find_preset
from codeckit.benchmarks.video_process import affordable_epochs, ms_ssim_window
from codeckit.formats.errors import CorruptFile

GOLDEN = Path(__file__).resolve().parents[1] / "video" / "golden" / "hnerv-1.ck"


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=400))
def test_huffman_codes_come_back_and_are_no_longer_than_entropy_and_a_bit(values: list[int]) -> None:
    symbols = np.array(values, np.int64)
    data = encode_huffman(symbols)
    assert np.array_equal(decode_huffman(data, len(symbols)), symbols)
    shares = np.bincount(symbols) / len(symbols)
    entropy = -sum(share * np.log2(share) for share in shares if share) * len(symbols)
    table = 160
    assert entropy <= 8 * (len(data) - table) <= entropy + len(symbols) + 7


def test_huffman_data_that_ends_early_is_refused() -> None:
    data = encode_huffman(np.arange(200))
    with pytest.raises(CorruptFile):
        decode_huffman(data[:-20], 200)


def test_the_baseline_s_file_holds_the_integers_of_the_hnerv_file(tmp_path: Path) -> None:
    write_huffman_file(GOLDEN, tmp_path / "huffman.ck")
    from codeckit.codecs.video.hnerv_structure import Structure
    from codeckit.codecs.video.network_file import NetworkHeader, read_content
    from codeckit.formats.reader import ContainerReader

    with ContainerReader(GOLDEN) as reader:
        content = read_content(NetworkHeader.of(reader.header, Structure.from_json), reader.chunks())
    assert content.embeddings is not None
    tensors = read_huffman_file(tmp_path / "huffman.ck")
    for wanted, found in zip([*content.parameters, content.embeddings], tensors, strict=True):
        assert np.array_equal(wanted.symbols, found.symbols)
        assert np.array_equal(wanted.minimum, found.minimum)
        assert np.array_equal(wanted.scale, found.scale)


def cells(**more: Any) -> list[Any]:
    plan = {"clips": frozenset[str](), "codecs": frozenset[str](), "device": "cpu", "threads": 1, "cpu_seconds": None}
    return list(plan_cells(find_preset("smoke"), **{**plan, **more}))


@pytest.fixture
def data(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named data sets are those of the data folder."""
    monkeypatch.setenv("CODECKIT_DATA", str(data_folder))


@pytest.mark.usefixtures("data")
def test_a_cell_s_name_says_everything_that_shapes_its_result() -> None:
    plain = cells()
    assert len({cell.key for cell in plain}) == len(plain)
    assert [cell.key for cell in cells()] == [cell.key for cell in plain]
    fitted = [cell for cell in plain if cell.curve.fitted]
    assert {cell.settings["epochs"] for cell in fitted} == {"2"}
    assert {cell.settings["audio"] for cell in fitted} == {"drop"}
    timed = [cell for cell in cells(cpu_seconds=5.0) if cell.curve.fitted]
    assert not {cell.key for cell in timed} & {cell.key for cell in plain}
    assert all("epochs" not in cell.settings for cell in timed)
    assert {cell.curve.codec for cell in cells(codecs=frozenset({"x265-stream"}))} == {"x265-stream"}
    assert cells(codecs=frozenset({"nerv++ tapered"})) == [cell for cell in plain if cell.curve.codec == "nerv++"]
    with pytest.raises(InvalidParameter, match="vp9"):
        cells(codecs=frozenset({"vp9"}))


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("name", ["cpu", "gpu", "length", "smoke"])
def test_every_preset_is_made_of_settings_that_its_codecs_take(name: str) -> None:
    from codeckit.benchmarks.peers import find_peer, peer_parameters

    plan = {"clips": frozenset[str](), "codecs": frozenset[str](), "device": "cpu", "threads": 1, "cpu_seconds": None}
    cells = plan_cells(find_preset(name), **plan)  # type: ignore[arg-type]
    assert cells
    for cell in cells:
        peer = find_peer(cell.curve.codec)
        assert isinstance(peer_parameters(peer, cell.curve.preset, cell.settings), peer.Params)


def test_settings_that_are_not_known_are_refused() -> None:
    for wrong in ({"presets": "cpu"}, {"preset": "cp"}, {"minutes": "-1"}, {"cpu_seconds": "x"}):
        with pytest.raises(InvalidParameter):
            bench(wrong, RunContext(device="cpu"))


def test_the_command_takes_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    from codeckit.cli.main import main as command

    assert command(["bench", "video", "--preset", "smok"]) == 2
    assert "smoke" in capsys.readouterr().err
    assert command(["bench", "video", "--preset", "smoke", "--set", "preset=gpu"]) == 2


def test_ms_ssim_has_its_usual_window_where_it_fits() -> None:
    import torch
    from pytorch_msssim import ms_ssim

    assert ms_ssim_window(256, 480) == 11
    assert ms_ssim_window(161, 161) == 11
    assert ms_ssim_window(160, 320) == 9
    picture = torch.rand(1, 3, 160, 170)
    assert float(ms_ssim(picture, picture, data_range=1.0, win_size=ms_ssim_window(160, 170))) == pytest.approx(1)


def points(curve: str, rates: list[float], epochs: int | None) -> list[dict[str, Any]]:
    row = {"row": "point", "benchmark": "video", "commit": "0", "clip": "c", "size": "2x2", "fits": "equal steps"}
    row |= {"device": "cpu", "codec": curve, "curve": curve, "epochs": epochs, "frames": 4}
    return [
        {**row, "bpp": rate, "psnr_db": 30.0 + number, "ms_ssim": None, "point": str(number)}
        for number, rate in enumerate(rates)
    ]


def test_bd_rates_are_against_both_anchors_and_the_plot_shows_the_points(tmp_path: Path) -> None:
    rates = [0.1, 0.2, 0.4, 0.8]
    rows = points("hnerv-huffman", rates, 2) + points("gridnerv", [rate / 2 for rate in rates], 2)
    rows += points("x265 medium", [rate / 4 for rate in rates], None)
    found = {row["curve"]: row for row in bd_rows(rows)}
    assert found["gridnerv"]["psnr_db_against_hnerv_huffman"] == pytest.approx(-50, abs=0.01)
    assert found["gridnerv"]["psnr_db_against_hnerv_huffman_overlap"] == 1
    assert found["x265 medium"]["psnr_db_against_hnerv_huffman"] == pytest.approx(-75, abs=0.01)
    assert found["gridnerv"]["psnr_db_against_x265"] == pytest.approx(100, abs=0.01)
    assert found["gridnerv"]["ms_ssim_against_x265"] is None
    assert "psnr_db_against_x265" not in found["x265 medium"]
    path = tmp_path / "video.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *bd_rows(rows)]))
    main(tmp_path / "plot.png", path)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_budget_of_processor_time_becomes_epochs(data_folder: Path, tmp_path: Path) -> None:
    clip = data_folder / "video" / "carphone_pristine.mp4"
    tiny = {"size": "64x48", "frames": "0:4", "strides": "4,4", "model_size": "0.03", "audio": "drop"}
    job = {"path": str(clip), "target": str(tmp_path / "a.ck"), "codec": "nerv++", "preset": "quick"}
    job |= {"device": "cpu", "threads": 1}
    assert affordable_epochs(job, tiny, 10.0) > 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_rows_are_those_of_files_that_decode_and_a_second_run_measures_nothing(tmp_path: Path) -> None:
    where = {"preset": "smoke", "folder": str(tmp_path)}
    context = RunContext(device="cpu", threads=1)
    rows = bench(where, context)
    measured = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert bench(where, context) == rows
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == measured
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".json")
    found = [row for row in rows if row["row"] == "point"]
    assert sorted(row["file_bytes"] for row in found) == sizes
    assert {row["curve"] for row in found} == {"hnerv", "hnerv-huffman", "nerv++ tapered", "x265 medium"}
    for row in found:
        assert row["bpp"] == 8 * row["file_bytes"] / (4 * 48 * 64)
        if row["codec"] in ("hnerv", "nerv++"):
            assert row["psnr_db"] == pytest.approx(row["reported_psnr_db"], abs=1e-3)
            assert row["encode_cpu_seconds"] > 0
            assert row["encode_peak_mib"] > row["decode_peak_mib"] > 20
            assert row["decode_fps"] > 0
    (nervpp,) = [row for row in found if row["codec"] == "nerv++"]
    (path,) = [path for path in tmp_path.glob("*.ck") if path.stat().st_size == nervpp["file_bytes"]]
    assert len(codeckit.decode(path)) == 4
