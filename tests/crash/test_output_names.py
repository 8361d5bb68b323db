"""Outputs under odd names: links, pipes, devices, patterns, very long ones; and outputs that replace others."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

import codeckit
from codeckit import OutputFailure
from codeckit.formats.atomic_file import AtomicFile, AtomicFolder


def write(path: Path, data: bytes = b"new", *, overwrite: bool = False) -> None:
    with AtomicFile(path, overwrite=overwrite) as output:
        output.write(data)
        output.commit()


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127, "clip[1]*?.ck", " ", "-", "\udcff.ck", "new\nline"])
def test_any_name_the_file_system_takes_can_be_written_and_swept(tmp_path: Path, name: str):
    path = tmp_path / name
    write(path)
    assert path.read_bytes() == b"new"
    write(path, b"newer", overwrite=True)
    assert path.read_bytes() == b"newer"
    stale = tmp_path / f".{os.fsdecode(os.fsencode(name)[:200])}.00000000.ck-tmp"
    stale.touch()
    (tmp_path / f"{stale.name}.d").mkdir()
    write(path, overwrite=True)
    assert os.listdir(tmp_path) == [name]


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path):
    for overwrite in (False, True):
        write(Path(os.devnull), overwrite=overwrite)
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(OutputFailure, match="no space left"):
        write(Path("/dev/full"), bytes(100_000))


def test_a_named_pipe_is_an_output_and_an_input(tmp_path: Path, reverse_codec: str):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    codeckit.encode(b"text" * 100, pipe, codec=reverse_codec)
    reader.join()
    assert codeckit.decode(received[0]) == b"text" * 100
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"from a pipe"))
    writer.start()
    assert codeckit.probe(pipe) == "bytes"  # and takes nothing out of the pipe
    data = codeckit.encode(pipe, codec=reverse_codec)
    writer.join()
    assert codeckit.decode(data) == b"from a pipe"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "file", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with pytest.raises(OutputFailure, match="exists already"):
        write(link)
    write(link, overwrite=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path / "real") == ["file"]


def test_replacing_a_file_keeps_its_permissions(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write(path, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_taken_away_by_a_writer_that_died_comes_back(tmp_path: Path):
    """Between the two renames of a replacement the old folder has no final name."""
    stale = tmp_path / ".frames.00000000.ck-tmp"
    stale.touch()
    (tmp_path / f"{stale.name}.d.old").mkdir()
    (tmp_path / f"{stale.name}.d.old" / "1.png").write_bytes(b"precious")
    with pytest.raises(ZeroDivisionError), AtomicFolder(tmp_path / "frames", overwrite=True):
        raise ZeroDivisionError
    assert (tmp_path / "frames" / "1.png").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["frames"]
