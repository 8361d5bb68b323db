"""Every peer writes a whole file and reads back what it should, on small real inputs."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

from codeckit.benchmarks.data_sets import list_items
from codeckit.benchmarks.items import Clip, Item, Sound, load_item
from codeckit.benchmarks.peers import PEERS, content_form, find_peer, peer_parameters
from codeckit.formats.errors import CorruptFile, ExternalFailure, InvalidParameter, UnsupportedInput


def usable(name: str) -> Any:
    peer = find_peer(name)
    try:
        peer.version()
    except ExternalFailure as missing:
        pytest.skip(str(missing))
    return peer


def there_and_back(name: str, kind: str, content: Any, folder: Path, **settings: Any) -> tuple[int, Any]:
    peer = usable(name)
    params = peer_parameters(peer, None, settings)
    path = folder / f"file{peer.suffix}"
    peer.encode(content, path, path, params)
    return path.stat().st_size, peer.decode(path, params, content_form(kind, content))


@pytest.fixture(scope="module")
def picture(data_folder: Path) -> Any:
    return load_item(list_items("kodak", limit=1)[0])[:96, :128]


@pytest.fixture(scope="module")
def digit(data_folder: Path) -> Sound:
    # a loud one: AMR removes what is under 80 Hz, which in quiet recordings is most of the signal
    return load_item(next(item for item in list_items("spoken-digits") if item.name == "6_jackson_2.wav"))


def psnr_db(first: Any, second: Any) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("jpeg", {"quality": 90}),
        ("webp", {"quality": 90}),
        ("avif", {"quality": 80, "speed": 10}),
        ("jpeg2000", {"ratio": 8.0}),
        ("jpeg-xl", {"quality": 90, "effort": 3}),
    ],
)
def test_lossy_image_formats_are_small_and_near(name: str, settings: dict[str, Any], picture: Any, tmp_path: Path):
    size, decoded = there_and_back(name, "image", picture, tmp_path, **settings)
    assert decoded.shape == picture.shape
    assert psnr_db(picture, decoded) > 30
    assert 200 < size < picture.size / 4


@pytest.mark.parametrize(
    ("name", "settings"),
    [("png", {}), ("webp", {"lossless": True}), ("jpeg-xl", {"lossless": True}), ("jpeg2000", {"ratio": 1.0})],
)
def test_lossless_image_formats_are_exact(name: str, settings: dict[str, Any], picture: Any, tmp_path: Path):
    size, decoded = there_and_back(name, "image", picture, tmp_path, **settings)
    np.testing.assert_array_equal(decoded, picture)
    assert size < picture.size


@pytest.mark.parametrize("name", ["zstd", "xz", "brotli", "ppmd"])
def test_general_compressors_are_exact_and_pack_text(name: str, data_folder: Path, tmp_path: Path):
    item = next(item for item in list_items("text", options={"first_bytes": "20000"}) if item.name == "alice29.txt")
    text = load_item(item)
    size, decoded = there_and_back(name, "bytes", text, tmp_path)
    assert decoded == text
    assert size < 0.5 * len(text)
    assert there_and_back(name, "bytes", b"", tmp_path)[1] == b""


@pytest.mark.parametrize(("name", "kbps"), [("opus", 24), ("mp3", 24), ("aac", 24), ("amr", 12.2)])
def test_audio_formats_come_back_in_time(name: str, kbps: float, digit: Sound, tmp_path: Path):
    size, decoded = there_and_back(name, "audio", digit, tmp_path, kbps=kbps)
    assert decoded.samples.shape == digit.samples.shape
    assert size < digit.samples.size * 2
    one, two = decoded.samples[:, 0].astype(float), digit.samples[:, 0].astype(float)
    lags = range(-60, 61)
    scores = [float(np.dot(np.roll(one, -lag), two)) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 1
    assert max(scores) / np.linalg.norm(one) / np.linalg.norm(two) > 0.7


def test_flac_is_exact_for_sixteen_bits(digit: Sound, tmp_path: Path):
    size, decoded = there_and_back("flac", "audio", digit, tmp_path)
    np.testing.assert_array_equal(decoded.samples, digit.samples)
    assert size < digit.samples.size * 2


def test_amr_refuses_what_it_cannot_represent(tmp_path: Path):
    sound = Sound(np.zeros((16000, 1), dtype=np.float32), 16000)
    with pytest.raises(UnsupportedInput, match="8 kHz mono"):
        there_and_back("amr", "audio", sound, tmp_path)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("x264", {"speed": "veryfast"}), ("x265", {"speed": "ultrafast"}), ("svt-av1", {"speed": 12}), ("vp9", {})],
)
def test_video_formats_keep_every_frame(name: str, settings: dict[str, Any], data_folder: Path, tmp_path: Path):
    (item,) = list_items("carphone", options={"frames": "0:4"})
    clip = load_item(item)
    size, decoded = there_and_back(name, "video", clip, tmp_path, **settings)
    assert decoded.frames.shape == clip.frames.shape
    assert psnr_db(clip.frames, decoded.frames) > 27
    assert size < clip.frames.size / 10


def test_no_encoder_leaves_the_process_in_the_real_time_class(tmp_path: Path):
    before = os.sched_getscheduler(0)
    clip = Clip(np.zeros((2, 128, 128, 3), dtype=np.uint8), Fraction(25))
    there_and_back("svt-av1", "video", clip, tmp_path, speed=12)
    assert os.sched_getscheduler(0) == before


def test_odd_pictures_are_refused_for_video(tmp_path: Path):
    clip = Clip(np.zeros((1, 33, 32, 3), dtype=np.uint8), Fraction(25))
    with pytest.raises(UnsupportedInput, match="even size"):
        there_and_back("x264", "video", clip, tmp_path)


def test_caches_raw_and_as_integers(tmp_path: Path):
    values = np.random.default_rng(0).normal(0, 2, (2, 2, 16, 3, 64)).astype(np.float16)
    raw, exact = there_and_back("raw", "tensors", values, tmp_path)
    np.testing.assert_array_equal(exact, values)
    small, near = there_and_back("int8", "tensors", values, tmp_path)
    assert small < 0.6 * raw
    step = np.abs(values.astype(float)).max(axis=-1, keepdims=True) / 127
    assert (np.abs(near - values.astype(float)) <= 0.51 * step * 1.01).all()


def test_our_codecs_answer_to_the_same_interface(data_folder: Path, tmp_path: Path):
    size, decoded = there_and_back("text", "bytes", b"to be or not to be, " * 20, tmp_path)
    assert decoded == b"to be or not to be, " * 20
    assert size == (tmp_path / "file.ck").stat().st_size


def test_unknown_names_and_settings_name_the_nearest():
    with pytest.raises(InvalidParameter, match="did you mean 'avif'"):
        find_peer("avfi")
    with pytest.raises(InvalidParameter, match="codec jpeg: no setting is called 'qualty'; did you mean 'quality'"):
        peer_parameters(find_peer("jpeg"), None, {"qualty": 3})
    with pytest.raises(InvalidParameter, match="0 to 100, got 101"):
        peer_parameters(find_peer("jpeg"), None, {"quality": 101})
    with pytest.raises(InvalidParameter, match="did you mean 'kodak'"):
        list_items("kodac")


def test_an_unreadable_picture_is_an_unsupported_input(tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG nonsense")
    item = Item(data_set="mine", name="bad.png", kind="image", path=tmp_path / "bad.png")
    with pytest.raises(UnsupportedInput, match="not a readable picture"):
        load_item(item)


def test_every_listed_peer_can_be_loaded():
    for name in PEERS:
        assert find_peer(name).name == name


@pytest.mark.slow
def test_compressai_models_write_files_that_decode_to_what_the_model_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Untrained models of the same architectures: the published weights cannot be fetched everywhere."""
    import torch
    from compressai.zoo import image_models

    torch.manual_seed(0)
    picture = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    for name in ("compressai-factorized", "compressai-hyperprior"):
        peer = find_peer(name)
        model = image_models[peer._model](quality=1, pretrained=False).eval()
        model.update()
        monkeypatch.setattr("codeckit.benchmarks.peers_compressai.load_model", lambda *_, model=model: model)
        params = peer_parameters(peer, None, {"quality": 1})
        peer.encode(picture, tmp_path, tmp_path / "coded.cai", params)
        decoded = peer.decode(tmp_path / "coded.cai", params, {})
        padded = np.pad(picture, ((0, 58), (0, 38), (0, 0)), mode="edge")
        with torch.inference_mode():
            expected = model(torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255)["x_hat"]
        expected = expected[0, :, :70, :90].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
        assert np.abs(decoded - expected).max() <= 1
        (tmp_path / "cut.cai").write_bytes((tmp_path / "coded.cai").read_bytes()[:-3])
        with pytest.raises(CorruptFile, match="strings take"):
            peer.decode(tmp_path / "cut.cai", params, {})


def test_compressai_without_its_weights_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_network(*arguments: object, **options: object) -> None:
        raise URLError("no network in this test")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(ExternalFailure, match="weights unobtainable"):
        find_peer("compressai-cheng2020").version()
