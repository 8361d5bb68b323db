"""Every codec of the package keeps a golden file of the bitstream version it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from codeckit.codecs.registry import list_codecs
from codeckit.formats.reader import ContainerReader

TESTS = Path(__file__).resolve().parents[1]


def golden_versions() -> set[tuple[str, int]]:
    found = set()
    for path in TESTS.glob("*/golden/**/*.ck"):
        with ContainerReader(path) as reader:
            found.add((reader.header.codec, reader.header.bitstream))
    return found


@pytest.mark.parametrize(
    "listing", [row for row in list_codecs() if row.provider.startswith("codeckit")], ids=lambda row: row.id
)
def test_a_codec_has_golden_files_of_all_its_bitstream_versions(listing):
    assert listing.codec is not None, listing.error
    versions = {version for codec, version in golden_versions() if codec == listing.id}
    assert versions == set(range(1, listing.codec.bitstream_version + 1))
