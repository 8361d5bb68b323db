"""What is written comes back: pixels, timestamps, orientation, colour description and sound."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from codeckit.formats.errors import OutputFailure
from codeckit.formats.limits import DEFAULT_LIMITS
from codeckit.formats.media import memory_sink, open_sink, open_source
from codeckit.formats.media_audio import AudioTrack
from codeckit.formats.media_properties import Colour, VideoProperties

VFR = [0, 512, 700, 3000, 3300, 9000]


def clip(width: int, height: int, count: int = 6) -> NDArray[np.uint8]:
    """A smooth moving pattern with some noise."""
    rng = np.random.default_rng(0)
    x, y, t = np.meshgrid(np.arange(width), np.arange(height), np.arange(count))
    waves = [127 + 90 * np.sin((x + 2 * t) / 9), 127 + 90 * np.cos((y - t) / 7), 100 + 10 * t]
    pictures = np.stack(waves, axis=-1).transpose(2, 0, 1, 3) + rng.integers(0, 3, (count, height, width, 3))
    return pictures.astype(np.uint8)


def properties(width: int, height: int, **more: Any) -> VideoProperties:
    defaults = VideoProperties(
        width=width, height=height, time_base=Fraction(1, 12800), frame_rate=Fraction(25), colour=Colour()
    )
    return replace(defaults, **more)


def write(
    target: Any,
    pictures: NDArray[np.uint8],
    *,
    ticks: Sequence[int] = VFR,
    last: int = 512,
    audio: Sequence[AudioTrack] = (),
    **more: Any,
) -> Any:
    with open_sink(target, overwrite=False, limits=DEFAULT_LIMITS) as sink:
        sink.begin(properties(pictures.shape[2], pictures.shape[1], **more), audio)
        ends = [*ticks[1:], ticks[-1] + last]
        for start in range(0, len(pictures), 4):
            stop = start + 4
            durations = [end - tick for tick, end in zip(ticks[start:stop], ends[start:stop], strict=False)]
            sink.write(pictures[start:stop], list(ticks[start:stop]), durations)
        sink.commit()
        return sink


def read(path: Path) -> tuple[NDArray[np.uint8], Any, Any]:
    with open_source(path, limits=DEFAULT_LIMITS) as source:
        frames = list(source.frames())
    return np.stack([frame.pixels for frame in frames]), frames, source


@pytest.mark.parametrize(("width", "height"), [(32, 16), (33, 17), (1, 1), (5000, 3)])
@pytest.mark.parametrize("name", ["clip.mkv", "clip.npy", "pictures", "pictures/"])
def test_lossless_outputs_hold_every_pixel(tmp_path: Path, name: str, width: int, height: int) -> None:
    pictures = clip(width, height)
    sink = write(f"{tmp_path}/{name}", pictures)
    back, _, _ = read(tmp_path / name.rstrip("/"))
    assert np.array_equal(back, pictures)
    written = tmp_path / name.rstrip("/")
    files = written.iterdir() if written.is_dir() else [written]
    assert sink.size_bytes == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("colour", [Colour(), Colour(matrix=1, range=1), Colour(matrix=6, range=2)])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.y4m"])
def test_lossy_outputs_stay_close_whatever_the_colour_description(tmp_path: Path, name: str, colour: Colour) -> None:
    rows = np.linspace(30, 220, 64)[:, None, None]  # greys and slow colours, which 4:2:0 keeps
    picture = np.broadcast_to(rows + np.array([0, 10, -10]), (64, 96, 3))
    pictures = np.stack([picture, picture + 5]).astype(np.uint8)
    write(tmp_path / name, pictures, ticks=[0, 512], colour=colour)
    back, _, source = read(tmp_path / name)
    assert np.abs(back.astype(int) - pictures).max() <= 6
    if name == "clip.mp4":
        assert source.properties.colour.matrix == colour.matrix
        assert source.properties.colour.range == colour.range


def test_rgb_sources_become_tagged_bt709_in_mp4(tmp_path: Path) -> None:
    pictures = clip(32, 16)
    write(tmp_path / "clip.mp4", pictures, colour=Colour(matrix=0, range=2))
    back, _, source = read(tmp_path / "clip.mp4")
    assert source.properties.colour == Colour(matrix=1, range=1, primaries=1, transfer=1)
    assert np.abs(back.astype(int) - pictures).mean() < 8


def test_mp4_keeps_every_timestamp_and_the_last_duration(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", clip(32, 16), last=77)
    _, frames, source = read(tmp_path / "clip.mp4")
    assert [frame.pts * source.properties.time_base for frame in frames] == [Fraction(t, 12800) for t in VFR]
    assert frames[-1].duration * source.properties.time_base == Fraction(77, 12800)


def test_mkv_keeps_timestamps_to_the_millisecond_it_can_hold(tmp_path: Path) -> None:
    write(tmp_path / "clip.mkv", clip(32, 16))
    _, frames, source = read(tmp_path / "clip.mkv")
    times = [frame.pts * source.properties.time_base for frame in frames]
    assert all(abs(time - Fraction(tick, 12800)) <= Fraction(1, 2000) for time, tick in zip(times, VFR, strict=True))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.y4m"])
def test_the_frame_rate_survives(tmp_path: Path, name: str) -> None:
    rate = Fraction(30000, 1001)
    ticks = range(0, 6 * 1001, 1001)
    write(tmp_path / name, clip(32, 16), ticks=ticks, last=1001, time_base=Fraction(1, 30000), frame_rate=rate)
    _, frames, source = read(tmp_path / name)
    assert abs(source.properties.frame_rate - rate) < Fraction(1, 50)
    times = [frame.pts * source.properties.time_base for frame in frames]
    assert all(
        abs(time - tick * Fraction(1, 30000)) <= Fraction(1, 2000) for time, tick in zip(times, ticks, strict=True)
    )


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_rotation_and_pixel_aspect_survive(tmp_path: Path, name: str) -> None:
    matrix = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    sink = write(tmp_path / name, clip(32, 16), display_matrix=matrix, pixel_aspect=Fraction(4, 3))
    _, _, source = read(tmp_path / name)
    found = source.properties.display_matrix
    assert found is not None
    assert [(value > 0) - (value < 0) for value in found[:5]] == [0, 1, 0, -1, 0]
    if name == "clip.mp4":
        assert source.properties.pixel_aspect == Fraction(4, 3)
    else:  # PyAV cannot hand a pixel aspect to the Matroska muxer
        assert any("pixel aspect" in note for note in sink.notes)


def samples(path: Path) -> NDArray[np.float32]:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_sound_is_carried_through_packet_by_packet(data_folder: Path, tmp_path: Path, name: str) -> None:
    path = data_folder / "video" / "bigbuckbunny.mp4"
    with open_source(path, limits=DEFAULT_LIMITS) as source:
        tracks = [AudioTrack.from_bytes(track.to_bytes()) for track in source.audio()]
    assert len(tracks) == 1
    sink = write(tmp_path / name, clip(32, 16), audio=tracks)
    assert sink.notes == []
    assert np.array_equal(samples(tmp_path / name), samples(path))


def test_sound_is_cut_to_the_time_of_the_frames(data_folder: Path) -> None:
    path = data_folder / "video" / "bigbuckbunny.mp4"
    with open_source(path, limits=DEFAULT_LIMITS) as source:
        (whole,) = source.audio()
        (part,) = source.audio(Fraction(1), Fraction(2))
    again = whole.cut(Fraction(1), Fraction(2))
    assert again is not None
    assert (part.start, len(part.stream)) == (again.start, len(again.stream))
    assert -1024 <= part.start <= 0  # the packet that sounds at second 1 begins up to one frame before it
    with av.open(io.BytesIO(part.stream)) as container:
        count = sum(packet.size > 0 for packet in container.demux(audio=0))
    assert 47 <= count <= 48  # 48000 / 1024 packets a second


def test_outputs_without_sound_say_that_they_drop_it(data_folder: Path, tmp_path: Path) -> None:
    with open_source(data_folder / "video" / "bigbuckbunny.mp4", limits=DEFAULT_LIMITS) as source:
        tracks = source.audio()
    for name in ("clip.y4m", "clip.npy", "pictures"):
        sink = write(tmp_path / name, clip(8, 8), audio=tracks)
        assert any("audio was left out" in note for note in sink.notes)


def test_a_stream_takes_y4m(tmp_path: Path) -> None:
    stream = io.BytesIO()
    write(stream, clip(32, 16))
    assert stream.getvalue().startswith(b"YUV4MPEG2 W32 H16 F25:1")
    (tmp_path / "clip.y4m").write_bytes(stream.getvalue())
    back, _, _ = read(tmp_path / "clip.y4m")
    assert np.abs(back.astype(int) - clip(32, 16)).max() <= 3


def test_memory_gives_the_array() -> None:
    pictures = clip(8, 4)
    with memory_sink(limits=DEFAULT_LIMITS) as sink:
        sink.begin(properties(8, 4), [])
        sink.write(pictures[:4], VFR[:4], [1] * 4)
        sink.write(pictures[4:], VFR[4:], [1] * 2)
        sink.commit()
        assert np.array_equal(sink.value, pictures)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.y4m", "clip.npy", "pictures"])
def test_leaving_without_commit_leaves_nothing(tmp_path: Path, name: str) -> None:
    pictures = clip(32, 16)
    with open_sink(tmp_path / name, overwrite=False, limits=DEFAULT_LIMITS) as sink:
        sink.begin(properties(32, 16), [])
        sink.write(pictures, VFR, [1] * 6)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.npy", "pictures"])
def test_what_exists_is_not_replaced_unasked(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(32, 16))
    with pytest.raises(OutputFailure, match="exists"):
        write(tmp_path / name, clip(32, 16))


def test_unknown_suffixes_and_full_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputFailure, match=r"\.webp"):
        open_sink(tmp_path / "clip.webp", overwrite=False, limits=DEFAULT_LIMITS)
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OutputFailure, match="no space left"):
        write(full, clip(320, 160))
