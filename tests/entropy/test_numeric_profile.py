"""Numeric profiles: every thread count, batch size and device computes the recorded tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codeckit.entropy.numeric_profile import (
    BUILT_IN_PROFILES,
    NumericProfile,
    profile_digest,
    require_profile,
    seeded_integers,
)
from codeckit.formats.errors import NumericProfileMismatch

profiles = pytest.mark.parametrize("profile", BUILT_IN_PROFILES, ids=lambda profile: profile.name)


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@profiles
@pytest.mark.parametrize("batch", [7, 256])
@pytest.mark.usefixtures("_threads")
def test_tables_on_the_cpu_are_the_recorded_ones(profile: NumericProfile, batch: int):
    assert profile_digest(profile, batch=batch) == profile.digest


@profiles
@pytest.mark.slow
@pytest.mark.usefixtures("_threads")
def test_tables_computed_one_row_at_a_time_are_the_recorded_ones(profile: NumericProfile):
    assert profile_digest(profile, batch=1) == profile.digest


@profiles
@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 7, 256])
def test_tables_on_cuda_are_the_recorded_ones(profile: NumericProfile, batch: int):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert profile_digest(profile, batch=batch, device="cuda") == profile.digest


def test_a_profile_this_reader_lacks_is_refused_by_name():
    assert require_profile("dense-1").name == "dense-1"
    with pytest.raises(NumericProfileMismatch, match="dense-2"):
        require_profile("dense-2")


def test_a_codec_can_bring_its_own_profile():
    own = NumericProfile(name="own-1", row_count=1, compute=lambda rows, device: rows, digest="")
    assert require_profile("own-1", [own]) is own


def test_seeded_integers_never_change():
    assert seeded_integers(1, (2, 3), -127, 127).tolist() == [[105, 15, -41], [-120, 91, 103]]
    assert np.unique(seeded_integers(2, (10000,), 0, 9)).size == 10
