"""Real senders for the tests of serving: a throttled HTTP server, and a Redis server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codeckit import kv
from codeckit.benchmarks.throttled_server import ThrottledServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThrottledServer]:
    """An HTTP server of ``tmp_path / 'served'`` on the loopback interface."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThrottledServer(folder) as running:
        yield running


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis server of its own, on a free port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            else:
                pytest.fail("redis-server did not begin to listen within 4 s")
            yield f"redis://127.0.0.1:{port}/0/contexts"
        finally:
            process.terminate()


@pytest.fixture
def small_cache() -> kv.Cache:
    """6 layers, 2 heads, 160 tokens, 16 channels in fp16: smooth along tokens, as keys and values are."""
    random = np.random.default_rng(5)
    steps = random.normal(size=(2, 6, 2, 160, 16)) * 0.3
    arrays = (np.cumsum(steps, axis=3) * 0.3 + random.normal(size=(2, 6, 2, 1, 16))).astype(np.float16)
    return kv.from_arrays(arrays[0], arrays[1], rotary=kv.Rotary.from_theta(10_000, 16), model="test")
