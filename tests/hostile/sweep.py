"""Throws damaged versions of one file at the library, in a process whose memory is capped.

Run as ``python sweep.py FILE MODE COUNT SECONDS`` with MODE ``every`` (each truncation and each bit flip, in a seeded
order) or ``random`` (COUNT seeded mutations); it stops after SECONDS of processor time, 0 meaning never. Prints one
JSON object: how many damaged files there were, which were accepted or raised something other than CodecError, and the
slowest in seconds of CPU time.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import codeckit

MEMORY_BYTES = 256 << 20


def every_damage(data: bytes) -> Iterator[tuple[str, bytes]]:
    places = list(range(9 * len(data)))
    random.Random(20260103).shuffle(places)  # so that a sweep that runs out of time has seen all parts of the file
    for place in places:
        bit = place - len(data)
        if bit < 0:
            yield f"cut at {place}", data[:place]
            continue
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        yield f"bit {bit}", bytes(damaged)


def random_damage(data: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    generator = random.Random(20260101)
    for number in range(count):
        damaged = bytearray(data)
        kind = generator.choice(("flip", "overwrite", "insert", "delete", "swap", "repeat"))
        for _ in range(generator.randint(1, 8)):
            position = generator.randrange(len(damaged))
            size = generator.randint(1, min(64, len(damaged) - 1))
            if kind == "flip":
                damaged[position] ^= 1 << generator.randrange(8)
            elif kind == "overwrite":
                damaged[position : position + size] = generator.randbytes(len(damaged[position : position + size]))
            elif kind == "insert":
                damaged[position:position] = generator.randbytes(size)
            elif kind == "delete":
                del damaged[position : position + size]
            elif kind == "swap":
                other = generator.randrange(len(damaged))
                damaged[position], damaged[other] = damaged[other], damaged[position]
            else:
                damaged[position:position] = damaged[max(0, position - size) : position]
        if bytes(damaged) != data:
            yield f"{kind} number {number}", bytes(damaged)


def attempt(data: bytes) -> str | None:
    """None when the damage was refused properly, else what happened."""
    for action in (codeckit.verify, codeckit.decode):
        try:
            action(data)
        except codeckit.CodecError:
            continue
        except BaseException as error:  # the point of the test is that nothing of any kind escapes
            return f"{action.__name__} raised {type(error).__name__}: {error}"
        return f"{action.__name__} accepted it"
    return None


def main(path: str, mode: str, count: str, seconds: str) -> None:
    data = Path(path).read_bytes()
    codeckit.decode(data)  # imports everything before memory is capped
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, in_use + MEMORY_BYTES))
    tried, failures, slowest = 0, [], 0.0
    end = time.process_time() + (float(seconds) or float("inf"))
    for name, damaged in every_damage(data) if mode == "every" else random_damage(data, int(count)):
        start = time.process_time()
        if start > end:
            break
        problem = attempt(damaged)
        slowest = max(slowest, time.process_time() - start)
        tried += 1
        if problem is not None:
            failures.append(f"{name}: {problem}")
    print(json.dumps({"tried": tried, "failures": failures[:20], "failed": len(failures), "slowest": slowest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
