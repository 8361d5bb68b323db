"""Every kind of clip is read exactly, and what is no clip is refused with a reason."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codeckit.formats.errors import CorruptFile, InvalidParameter, LimitExceeded, UnsupportedInput
from codeckit.formats.limits import DEFAULT_LIMITS, Limits
from codeckit.formats.media import open_source

KR_KB = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def read(value: Any, limits: Limits = DEFAULT_LIMITS) -> tuple[NDArray[np.uint8], list[int], Any]:
    """Pictures, timestamps and the source itself."""
    with open_source(value, limits=limits) as source:
        frames = list(source.frames())
        return np.stack([frame.pixels for frame in frames]), [frame.pts for frame in frames], source


def lossless_yuv(
    path: Path, planes: Sequence[NDArray[Any]], pixel_format: str, *, matrix: int = 2, colour_range: int = 0
) -> None:
    """Write YCbCr planes, each [3, H, W], without loss and with a colour description."""
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width = planes[0].shape[1:]
        stream.pix_fmt = pixel_format
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = colour_range
        for number, plane in enumerate(planes):
            frame = av.VideoFrame.from_ndarray(plane, format=pixel_format)
            frame.pts = number
            frame.time_base = Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def x264_clip(path: Path, ticks: Sequence[int], *, width: int = 32, height: int = 16, rotation: int = 0) -> None:
    """An H.264 clip with frames at ``ticks`` of 1/12800 s."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 12800)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 * number, np.uint8)).reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = tick, Fraction(1, 12800)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def reference_rgb(plane: NDArray[Any], matrix: int, full: bool) -> NDArray[np.float64]:
    """ITU-T H.273 in floating point: [3, H, W] YCbCr -> [H, W, 3] RGB."""
    kr, kb = KR_KB[matrix]
    y, cb, cr = (component.astype(np.float64) for component in plane)
    y = y / 255 if full else (y - 16) / 219
    cb, cr = ((component - 128) / (255 if full else 224) for component in (cb, cr))
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return 255 * np.stack([red, green, blue], axis=-1).clip(0, 1)


@pytest.mark.parametrize("matrix", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("colour_range", [0, 1, 2])
def test_colours_follow_the_matrix_and_the_range_of_the_file(tmp_path: Path, matrix: int, colour_range: int) -> None:
    levels = np.random.default_rng(0).integers(40, 210, (3, 8, 16)).astype(np.uint8)
    plane = levels.repeat(2, 1).repeat(2, 2)
    path = tmp_path / "clip.mkv"
    lossless_yuv(path, [plane], "yuv444p", matrix=matrix, colour_range=colour_range)
    pictures, _, source = read(path)
    expected = reference_rgb(plane, matrix, full=colour_range == 2)
    assert np.abs(pictures[0] - expected).max() <= 2
    assert source.properties.colour.matrix == matrix
    assert source.properties.colour.range == colour_range


def test_a_clip_without_a_named_matrix_is_read_as_ffmpeg_reads_it(data_folder: Path) -> None:
    path = data_folder / "video" / "bigbuckbunny.mp4"
    with av.open(str(path)) as container, open_source(path, limits=DEFAULT_LIMITS) as source:
        pairs = list(zip(container.decode(video=0), source.frames(0, 5), strict=False))
        assert len(pairs) == 5
        for expected, frame in pairs:
            # the conversion `ffmpeg -i clip frame%d.png` makes: libswscale's defaults
            assert np.array_equal(frame.pixels, expected.to_ndarray(format="rgb24"))
            plane = expected.to_ndarray(format="yuv420p")
            assert plane.shape == (1080, 1280)


def test_ten_bit_samples_are_rounded_and_the_caller_is_told(tmp_path: Path) -> None:
    path = tmp_path / "deep.mkv"
    levels = np.full((3, 16, 32), 512, np.uint16)
    levels[0] = np.linspace(100, 900, 32).astype(np.uint16)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv444p10le"
        frame = av.VideoFrame(32, 16, "yuv444p10le")
        for plane, values in zip(frame.planes, levels, strict=True):
            plane.update(values.tobytes())
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    pictures, _, source = read(path)
    grey = ((levels[0, 0] / 4 - 16) / 219 * 255).clip(0, 255)
    assert np.abs(pictures[0, 0, :, 0] - grey).max() <= 1.5
    assert any("10-bit" in note for note in source.notes)


def test_variable_frame_rates_keep_every_timestamp(tmp_path: Path) -> None:
    ticks = [0, 512, 700, 3000, 3001, 9000]
    path = tmp_path / "vfr.mp4"
    x264_clip(path, ticks)
    _, timestamps, source = read(path)
    assert timestamps == ticks
    assert source.properties.time_base == Fraction(1, 12800)


def test_rotation_is_read_as_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    x264_clip(path, [0, 512], rotation=90)
    pictures, _, source = read(path)
    assert pictures.shape[1:3] == (16, 32)
    assert source.properties.display_matrix is not None
    assert source.properties.display_matrix[:2] == (0, -65536) or source.properties.display_matrix[:2] == (0, 65536)


def test_a_range_of_frames_is_what_lies_between_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    x264_clip(path, range(0, 5120, 512))
    everything, _, _ = read(path)
    with open_source(path, limits=DEFAULT_LIMITS) as source:
        part = [frame.pixels for frame in source.frames(3, 6)]
    assert np.array_equal(np.stack(part), everything[3:6])


def test_bytes_and_streams_give_the_same_clip_as_the_path(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    path = tmp_path / "clip.mp4"
    x264_clip(path, range(0, 2048, 512))
    expected, ticks, _ = read(path)
    for value in (path.read_bytes(), io.BytesIO(path.read_bytes()), Pipe(path.read_bytes())):
        pictures, timestamps, _ = read(value)
        assert np.array_equal(pictures, expected)
        assert timestamps == ticks


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3), (5000, 3), (3, 5000)])
def test_any_picture_size_is_read(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "odd.mkv"
    plane = np.random.default_rng(1).integers(0, 255, (3, height, width)).astype(np.uint8)
    lossless_yuv(path, [plane, plane], "yuv444p")
    pictures, _, _ = read(path)
    assert pictures.shape == (2, height, width, 3)


def test_arrays_tensors_npy_and_folders_are_clips(tmp_path: Path) -> None:
    import torch

    frames = np.random.default_rng(2).integers(0, 255, (12, 6, 10, 3)).astype(np.uint8)
    np.save(tmp_path / "clip.npy", frames)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"f{number}.png")  # f10 must follow f9, not f1
    for value in (frames, torch.from_numpy(frames), tmp_path / "clip.npy", folder):
        pictures, ticks, source = read(value)
        assert np.array_equal(pictures, frames)
        assert ticks == list(range(12))
        assert source.properties.frame_rate == 25


def test_y4m_is_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.y4m"
    header = b"YUV4MPEG2 W4 H2 F30:1 Ip A1:1 C444\n"
    path.write_bytes(header + b"".join(b"FRAME\n" + bytes([value]) * 8 + bytes([128]) * 16 for value in (16, 126, 235)))
    pictures, _, source = read(path)
    assert pictures[:, 0, 0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    assert source.properties.frame_rate == 30


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000)
        stream.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    audio_only(path)
    with pytest.raises(UnsupportedInput, match="no video stream"):
        open_source(path, limits=DEFAULT_LIMITS)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.y4m"
    path.write_bytes(b"YUV4MPEG2 W4 H2 F30:1 Ip A1:1 C444\n")
    with pytest.raises(UnsupportedInput, match="without a single frame"):
        open_source(path, limits=DEFAULT_LIMITS)


@pytest.mark.parametrize("name", ["letter.txt", "letter.nfo", "noise.bin"])
def test_text_is_not_drawn_as_a_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"FFmpeg would render these lines as pictures of a terminal.\n" * 400)
    with pytest.raises((CorruptFile, UnsupportedInput), match="not a"):
        open_source(path, limits=DEFAULT_LIMITS)


def test_empty_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no film\n" * 50)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnsupportedInput, match="empty"):
        open_source(tmp_path / "empty.mp4", limits=DEFAULT_LIMITS)
    with pytest.raises(InvalidParameter, match="does not exist"):
        open_source(tmp_path / "missing.mp4", limits=DEFAULT_LIMITS)
    with pytest.raises(CorruptFile, match="not a media file"):
        open_source(tmp_path / "text.mp4", limits=DEFAULT_LIMITS)
    with pytest.raises(UnsupportedInput, match="directory without pictures"):
        open_source(tmp_path / "folder", limits=DEFAULT_LIMITS)
    with pytest.raises(UnsupportedInput, match="cannot read a video from"):
        open_source(3.5, limits=DEFAULT_LIMITS)


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    x264_clip(path, range(0, 5120, 512))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFile):
        open_source(path, limits=DEFAULT_LIMITS)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 3), np.uint8), "T, H, W, 3"),
        (np.zeros((2, 4, 4, 4), np.uint8), "T, H, W, 3"),
        (np.zeros((0, 4, 4, 3), np.uint8), "not a single pixel"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(value: NDArray[Any], reason: str) -> None:
    with pytest.raises(UnsupportedInput, match=reason):
        open_source(value, limits=DEFAULT_LIMITS)


def test_a_damaged_npy_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.npy").write_bytes(b"\x93NUMPY no more")
    with pytest.raises(CorruptFile):
        open_source(tmp_path / "clip.npy", limits=DEFAULT_LIMITS)


def test_pictures_of_a_folder_must_agree_and_have_eight_bits(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    Image.new("RGB", (4, 6)).save(tmp_path / "1.png")
    with open_source(tmp_path, limits=DEFAULT_LIMITS) as source, pytest.raises(UnsupportedInput, match="4x6"):
        list(source.frames())
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "0.png")
    with pytest.raises(UnsupportedInput, match="8 bits"):
        open_source(tmp_path, limits=DEFAULT_LIMITS)


def test_limits_are_checked_before_pictures_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    x264_clip(path, [0, 512], width=64, height=32)
    with pytest.raises(LimitExceeded, match="64x32"):
        open_source(path, limits=Limits(max_dimension=48))
    with pytest.raises(LimitExceeded, match="64x32"):
        open_source(path, limits=Limits(max_pixels=1000))
