"""Work for the tests of executors: it must be importable by the workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from codeckit.formats.errors import UnsupportedInput


def square(number: int) -> int:
    return number * number


def fail_on_odd(number: int) -> int:
    if number == 1:
        raise UnsupportedInput("one is not taken")
    if number == 3:
        raise ZeroDivisionError("three divides by zero")
    return number


def die_once(payload: tuple[str, int]) -> int:
    """Kill this very process the first time that job 2 comes by."""
    folder, number = payload
    marker = Path(folder) / "died"
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_always(number: int) -> Any:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep_and_mark(payload: tuple[str, int]) -> int:
    import time

    folder, number = payload
    Path(folder, f"started-{number}").touch()
    time.sleep(0.2 if number == 0 else 60)
    return os.getpid()


def slow_node_name(payload: tuple[str, int]) -> str:
    """The Ray node that does this job, which takes a second."""
    import time

    import ray

    folder, number = payload
    name = str(ray.get_runtime_context().get_node_id())
    Path(folder, f"{name}-{number}").touch()
    time.sleep(1)
    return name
