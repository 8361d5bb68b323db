"""Third parties add codecs through entry points; conflicts and broken plug-ins are told, not hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

import codeckit
from codeckit.codecs.registry import find_codec


def install(folder: Path, name: str, entry: str, code: str = "") -> None:
    """Put a distribution with one codec entry point into ``folder``, as pip would."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[codeckit.codecs]\n{entry}\n")
    if code:
        (folder / f"{name}.py").write_text(code)


def test_an_installed_third_party_codec_encodes(reverse_codec: str):
    listing = {item.id: item for item in codeckit.list_codecs()}
    assert listing[reverse_codec].provider == "reverse-codec 1.0"
    assert codeckit.decode(codeckit.encode(b"abc", codec=reverse_codec)) == b"abc"


def test_a_duplicate_id_is_an_error(tmp_path: Path, reverse_codec: str, monkeypatch: pytest.MonkeyPatch):
    install(tmp_path, "rival", "reverse = rival:Codec", "class Codec: id = 'reverse'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(codeckit.ExternalFailure, match=r"registered twice.*rival 1\.0"):
        find_codec(reverse_codec)
    listing = {item.id: item for item in codeckit.list_codecs()}
    assert "registered twice" in str(listing[reverse_codec].error)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no luck')\n", "RuntimeError: no luck"),
        ("import module_that_is_missing\n", "ModuleNotFoundError"),
        ("class Codec: id = 'broken'\n", "lacks kind"),
        ("", "ModuleNotFoundError"),
    ],
)
def test_a_broken_plug_in_is_listed_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
):
    module = f"broken_{abs(hash(code))}"  # a fresh name each time: Python remembers imported modules
    install(tmp_path, module, f"broken = {module}:Codec", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    listing = {item.id: item for item in codeckit.list_codecs()}
    assert message in str(listing["broken"].error)
    with pytest.raises(codeckit.ExternalFailure, match="broken"):
        find_codec("broken")


def test_an_unknown_codec_suggests_the_nearest(reverse_codec: str):
    with pytest.raises(codeckit.UnknownCodec, match="did you mean 'reverse'"):
        find_codec("revrse")
