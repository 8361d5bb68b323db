"""Whatever happens while writing, a final name never holds a torn file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import codeckit
from codeckit import InvalidParameter, OutputFailure
from codeckit.formats.atomic_file import AtomicFile, AtomicFolder

KILLER = Path(__file__).with_name("kill_writers.py")
KILLS = 200


def temporaries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".ck-tmp")]


def test_two_hundred_kills_during_writing_leave_no_torn_file(tmp_path: Path):
    target = tmp_path / "out.ck"
    command = [sys.executable, str(KILLER), str(target), str(KILLS)]
    seen = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert seen["kills"] == KILLS
    assert seen["torn"] == 0
    assert seen["sound"] > KILLS // 2
    assert seen["most_temporaries"] == 1  # each new writer swept what the killed one had left
    with AtomicFile(target, overwrite=True) as output:
        output.write(b"x")
        output.commit()
    assert os.listdir(tmp_path) == ["out.ck"]


def test_the_temporary_of_a_living_writer_is_not_swept(tmp_path: Path):
    with AtomicFile(tmp_path / "a") as first:
        first.write(b"first")
        with AtomicFile(tmp_path / "a") as second:
            assert len(temporaries(tmp_path)) == 2
            second.write(b"second")
            second.commit()
        with pytest.raises(OutputFailure, match="meanwhile"):
            first.commit()
    assert (tmp_path / "a").read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["a"]


def test_nothing_is_left_when_writing_fails(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), AtomicFile(tmp_path / "a") as output:
        output.write(b"half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputFailure, match="exists already"):
        AtomicFile(path)
    with AtomicFile(path, overwrite=True) as output:
        output.write(b"new")
        assert path.read_bytes() == b"old"
        output.commit()
    assert path.read_bytes() == b"new"


def test_a_folder_appears_whole(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), AtomicFolder(tmp_path / "frames") as output:
        (output.temporary / "1.png").write_bytes(b"1")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    for content in (b"1", b"2"):
        with AtomicFolder(tmp_path / "frames", overwrite=True) as output:
            (output.temporary / "1.png").write_bytes(content)
            output.commit()
        assert (tmp_path / "frames" / "1.png").read_bytes() == content
        assert os.listdir(tmp_path) == ["frames"]


@pytest.mark.parametrize("name", ["missing/out.ck", "."])
def test_an_output_that_cannot_be_made_is_a_clear_error(tmp_path: Path, name: str, reverse_codec: str):
    with pytest.raises(OutputFailure):
        codeckit.encode(b"data", tmp_path / name, codec=reverse_codec)


def test_a_full_device_is_a_clear_error(reverse_codec: str):
    with open("/dev/full", "wb", buffering=0) as stream, pytest.raises(OutputFailure, match="no space left"):
        codeckit.encode(bytes(1_000_000), stream, codec=reverse_codec)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, plugin_folder: Path):
    """A file-size limit makes the system refuse the bytes in the middle of a file, as a full disk does."""
    program = (
        "import resource, signal, codeckit\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    codeckit.encode(bytes(1_000_000), 'out.ck', codec='reverse', preset='large')\n"
        "except codeckit.OutputFailure as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(plugin_folder)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert b"out.ck: cannot write" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_reader_that_goes_away_is_a_clear_error(reverse_codec: str):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as stream, pytest.raises(OutputFailure, match="went away"):
        codeckit.encode(bytes(100_000), stream, codec=reverse_codec)


def test_cancelling_leaves_nothing_behind(tmp_path: Path, reverse_codec: str):
    token = codeckit.CancellationToken()

    def stop(progress: codeckit.Progress) -> None:
        if progress.done > 1000:
            token.cancel()

    with pytest.raises(codeckit.Cancelled):
        codeckit.encode(
            bytes(10_000),
            tmp_path / "out.ck",
            codec=reverse_codec,
            context=codeckit.RunContext(progress=stop, cancellation=token),
        )
    assert os.listdir(tmp_path) == []


def test_verifying_a_stream_is_refused(reverse_codec: str):
    with open(os.devnull, "wb") as stream, pytest.raises(InvalidParameter, match="verified"):
        codeckit.encode(b"", stream, codec=reverse_codec, verify=True)
