"""The command line keeps the contract that scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = b"What has been will be again, what has been done will be done again.\n" * 20


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def encoded(tmp_path: Path, text_file: Path, run_codec) -> Path:
    path = tmp_path / "book.ck"
    assert run_codec("encode", text_file, "-o", path, "--codec", "reverse").returncode == 0
    return path


def test_a_file_goes_there_and_back_with_a_report(tmp_path: Path, text_file: Path, run_codec):
    done = run_codec("encode", text_file, "-o", tmp_path / "b.ck", "--codec", "reverse", "--json", "--verify")
    assert (done.returncode, done.stderr) == (0, b"")
    report = json.loads(done.stdout)
    assert report["version"] == 1
    assert report["codec"] == "reverse"
    assert report["bitstream_version"] == 1
    assert report["input_bytes"] == len(TEXT)
    assert report["output_bytes"] == (tmp_path / "b.ck").stat().st_size
    assert report["seconds"] >= 0
    assert report["device"] == "cpu"
    done = run_codec("decode", tmp_path / "b.ck", "-o", tmp_path / "b.txt", "--json")
    assert json.loads(done.stdout)["output_bytes"] == len(TEXT)
    assert (tmp_path / "b.txt").read_bytes() == TEXT


def test_pipes_work_both_ways(run_codec):
    encoded = run_codec("encode", "-", "-o", "-", "--codec", "reverse", stdin=TEXT)
    assert (encoded.returncode, encoded.stderr) == (0, b"")
    decoded = run_codec("decode", "-", "-o", "-", stdin=encoded.stdout)
    assert (decoded.returncode, decoded.stdout, decoded.stderr) == (0, TEXT, b"")


def test_a_report_about_data_on_standard_output_goes_to_standard_error(run_codec):
    done = run_codec("encode", "-", "-o", "-", "--codec", "reverse", "--json", stdin=TEXT)
    assert json.loads(done.stderr)["input_bytes"] == len(TEXT)
    assert done.stdout.startswith(b"\x89CKc")


def test_a_range_is_decoded_alone(encoded: Path, tmp_path: Path, run_codec):
    done = run_codec("decode", encoded, "-o", tmp_path / "part", "--range", "100:300")
    assert done.returncode == 0
    assert (tmp_path / "part").read_bytes() == TEXT[100:300]
    done = run_codec("decode", encoded, "-o", tmp_path / "none", "--range", "5000:6000")
    assert done.returncode == 2
    assert b"not within" in done.stderr


def test_info_shows_what_a_person_wants_and_json_for_scripts(encoded: Path, run_codec):
    shown = run_codec("info", encoded).stdout.decode()
    for expected in ("reverse, bitstream version 1", "block size", "chunks DATA", "22 holding"):
        assert expected in shown
    found = json.loads(run_codec("info", encoded, "--json").stdout)
    assert found["description"] == {"block size": 64}
    assert found["size_bytes"] == encoded.stat().st_size
    assert found["chunks"] == [{"type": "DATA", "count": 22, "payload_bytes": len(TEXT)}]


def test_verify_tells_sound_from_damaged(encoded: Path, run_codec):
    assert run_codec("verify", encoded).stdout.startswith(str(encoded).encode() + b": sound")
    data = bytearray(encoded.read_bytes())
    data[200] ^= 1
    encoded.write_bytes(data)
    done = run_codec("verify", encoded, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["type"] in ("ChecksumMismatch", "CorruptFile")
    assert b"checksum" in done.stderr


def test_a_damaged_file_gives_no_output_unless_recovery_is_asked_for(encoded: Path, tmp_path: Path, run_codec):
    encoded.write_bytes(encoded.read_bytes()[:1000])
    done = run_codec("decode", encoded, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert not (tmp_path / "out").exists()
    done = run_codec("decode", encoded, "-o", tmp_path / "out", "--recover")
    assert done.returncode == 0
    assert b"note: chunk 8 (DATA) is damaged or missing" in done.stderr
    recovered = (tmp_path / "out").read_bytes()
    assert len(recovered) > 0
    assert TEXT.startswith(recovered)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "book.txt"], 2, "exactly one of -o"),
        (["encode", "book.txt", "-o", ""], 2, "empty name"),
        (["encode", "", "-o", "x"], 2, "empty name"),
        (["encode", "book.txt", "-o", "x", "--codec", "kv"], 3, "neither a safetensors nor an npy file"),
        (["encode", "missing.txt", "-o", "x"], 2, "missing.txt does not exist"),
        (["encode", "missing.txt", "-o", "x", "--codec", "reverse"], 2, "cannot open missing.txt"),
        (["encode", "book.txt", "-o", "x", "--codec", "revers"], 2, "did you mean 'reverse'"),
        (["encode", "book.txt", "-o", "x", "--codec", "reverse", "--preset", "larg"], 2, "did you mean 'large'"),
        (["encode", "book.txt", "-o", "x", "--codec", "reverse", "--set", "block_byte=3"], 2, "did you mean"),
        (["encode", "book.txt", "-o", "x", "--codec", "reverse", "--set", "block_bytes=a"], 2, "not a valid int"),
        (["encode", "book.txt", "-o", "x", "--codec", "reverse", "--set", "block_bytes=0"], 2, "must be positive"),
        (["encode", "book.txt", "-o", "x", "--codec", "reverse", "--set", "block_bytes"], 2, "KEY=VALUE"),
        (["encode", "book.txt", "-o", "x", "--codec", "reverse", "--threads", "0"], 2, "at least 1"),
        (["encode", "book.txt", "-o", "book.txt", "--codec", "reverse"], 1, "exists already"),
        (["encode", "book.txt", "-o", "no/such/folder", "--codec", "reverse"], 1, "folder does not exist"),
        (["encode", ".", "-o", "x", "--codec", "reverse"], 4, "is a directory"),
        (["encode", "-", "-o", "-", "--codec", "reverse", "--resume"], 2, "--resume needs"),
        (["decode", "book.txt", "-o", "x"], 3, "not a codeckit file"),
        (["decode", "empty", "-o", "x"], 3, "empty"),
        (["decode", ".", "-o", "x"], 3, "directory"),
        (["decode", "book.ck", "-o", "x", "--frames", "0:1"], 2, "cannot select frames"),
        (["decode", "book.ck", "-o", "x", "--range", "9"], 2, "not a range"),
        (["decode", "book.ck", "-o", "x", "--range", "9:3"], 2, "empty range"),
        (["info", "book.txt"], 3, "not a codeckit file"),
        (["verify", "missing.ck"], 2, "cannot open"),
        (["train", "nothing"], 2, "no trainer is called"),
        (["bench", "nothing"], 2, "no benchmark is called"),
        (["fly"], 2, "invalid choice"),
        (["encode", "book.txt", "-o", "x", "--device", "tpu"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_mistakes_get_their_exit_code_and_leave_nothing_behind(
    arguments: list[str], code: int, message: str, encoded: Path, text_file: Path, tmp_path: Path, run_codec
):
    (tmp_path / "empty").touch()
    before = sorted(os.listdir(tmp_path))
    done = run_codec(*arguments, cwd=tmp_path)
    assert (done.returncode, message in done.stderr.decode()) == (code, True), done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == before


def test_standard_streams_serve_every_command(encoded: Path, tmp_path: Path, run_codec):
    data = encoded.read_bytes()
    shown = json.loads(run_codec("info", "-", "--json", stdin=data).stdout)
    assert (shown["codec"], shown["size_bytes"]) == ("reverse", len(data))
    assert run_codec("verify", "-", stdin=data).returncode == 0
    assert run_codec("verify", "-", stdin=data[:-1]).returncode == 3
    done = run_codec("decode", "-", "-o", "-", "--json", stdin=data)
    assert done.stdout == TEXT
    report = json.loads(done.stderr)
    assert (report["input_bytes"], report["output_bytes"]) == (len(data), len(TEXT))
    done = run_codec("decode", "-", "-o", "-", "--json", stdin=data[:-1])
    assert (done.returncode, b'"error"' in done.stdout) == (3, False)
    done = run_codec("encode", "-", "-o", "-", "--codec", "reverse", stdin=TEXT)
    assert run_codec("decode", "-", "-o", "-", stdin=done.stdout).stdout == TEXT


def test_several_inputs_go_on_after_a_bad_one(tmp_path: Path, run_codec):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_bytes(name.encode())
    out = tmp_path / "out"
    done = run_codec("encode", folder, "--output-dir", out, "--codec", "reverse")
    assert done.returncode == 0
    assert sorted(os.listdir(out)) == ["a.txt.ck", "b.txt.ck", "c.txt.ck"]
    (out / "b.txt.ck").write_bytes(b"rubbish")
    done = run_codec("decode", out, "--output-dir", tmp_path / "back", "--json")
    assert done.returncode == 1
    assert sorted(os.listdir(tmp_path / "back")) == ["a.txt", "c.txt"]
    assert [("error" in json.loads(line)) for line in done.stdout.splitlines()] == [False, True, False]


def test_resuming_a_folder_leaves_finished_outputs_alone(tmp_path: Path, run_codec):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_bytes(name.encode())
    assert run_codec("encode", folder, "--output-dir", out, "--codec", "reverse").returncode == 0
    before = (out / "a.txt.ck").stat().st_mtime_ns
    (out / "b.txt.ck").unlink()
    assert run_codec("encode", folder, "--output-dir", out, "--codec", "reverse").returncode == 1  # a.txt.ck exists
    (out / "b.txt.ck").unlink()
    done = run_codec("encode", folder, "--output-dir", out, "--codec", "reverse", "--resume")
    assert (done.returncode, b"1 of 2 outputs are there already" in done.stderr) == (0, True)
    assert (out / "a.txt.ck").stat().st_mtime_ns == before
    assert sorted(os.listdir(out)) == ["a.txt.ck", "b.txt.ck"]


def test_listing_commands_answer_properly(run_codec):
    assert b"reverse" in run_codec("list").stdout
    assert b"block_bytes" in run_codec("list", "--settings").stdout
    listed = [json.loads(line) for line in run_codec("list", "--json").stdout.splitlines()]
    assert {"reverse", "hnerv"} <= {row["codec"] for row in listed}
    assert all("error" not in row for row in listed)
    assert run_codec("train").returncode == 0
    assert run_codec("bench").returncode == 0
    assert run_codec("--version").stdout.startswith(b"codec 0.")


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["info", "book.ck"], ["verify", "book.ck"]])
def test_light_commands_import_nothing_heavy_and_start_fast(
    arguments: list[str], encoded: Path, tmp_path: Path, plugin_folder: Path
):
    program = (
        "import sys, time\n"
        "from codeckit.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'compressai', 'torchvision', 'torchaudio', 'av', 'numba', 'scipy', 'constriction'}\n"
        "print(sorted(heavy & set(sys.modules)), time.process_time(), file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder)}
    best = 1e9
    for _ in range(5):  # the least of several: other processes only ever add to CPU time
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
        heavy, seconds = done.stderr.decode().strip().rsplit(" ", 1)
        assert heavy == "[]"
        best = min(best, float(seconds))
    assert best < 0.3


def test_interrupting_says_so_and_leaves_nothing(tmp_path: Path, plugin_folder: Path):
    import signal

    environment = {**os.environ, "PYTHONPATH": str(plugin_folder)}
    program = str(Path(sys.executable).with_name("codec"))
    command = [program, "encode", "/dev/zero", "-o", "out.ck", "--codec", "reverse"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    while not os.listdir(tmp_path):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"stopp" in shown
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".resume")] == []
