"""Compiling takes up to a minute the first time, so it is announced."""

from __future__ import annotations

import logging

import pytest
from numba import njit
from numba.core.event import install_listener

from codeckit.entropy.native_compilation import CompilationNotice


def kernel(value: int) -> int:
    return value + 1


def test_compiling_our_kernels_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO, "codeckit"):
        njit(kernel)(1)
        assert not caplog.records  # somebody else's function
        monkeypatch.setattr(kernel, "__module__", "codeckit.entropy.some_kernels")
        njit(kernel)(1)  # from here on this process has had its own notice
        caplog.clear()
        with install_listener("numba:compile", CompilationNotice()):
            njit(kernel)(1)
            njit(kernel)(2.0)
    assert [record.getMessage() for record in caplog.records] == [
        "compiling for this processor; later runs find the result in a cache"
    ]
