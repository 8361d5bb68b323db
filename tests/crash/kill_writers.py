"""Forks writers of one file and kills each at a random moment; prints what was seen as JSON.

Run as ``python kill_writers.py TARGET KILLS``. A kill counts when it left a half-written temporary behind. The
writers are forks of one process, so that two hundred of them take seconds.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import codeckit
from codeckit.formats.atomic_file import AtomicFile
from codeckit.formats.header import Header
from codeckit.formats.writer import ContainerWriter


def write_for_ever(path: Path) -> None:
    """Write the same file again and again, slowly enough to be killed in the middle."""
    while True:
        with AtomicFile(path, overwrite=True) as output:
            writer = ContainerWriter(output)
            writer.write_header(Header(codec="reverse", bitstream=1))
            for number in range(20):
                writer.write_chunk("DATA", bytes([number]) * 20_000)
                time.sleep(0.0005)
            writer.finish()
            output.commit()


def main(target: str, kills: str) -> None:
    path = Path(target)
    generator = random.Random(7)
    counted = sound = torn = most_temporaries = 0
    while counted < int(kills):
        child = os.fork()
        if child == 0:
            write_for_ever(path)
        time.sleep(generator.uniform(0.001, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        temporaries = sum(name.endswith(".ck-tmp") for name in os.listdir(path.parent))
        most_temporaries = max(most_temporaries, temporaries)
        counted += temporaries > 0
        if path.exists():
            try:
                codeckit.verify(path)
                sound += 1
            except codeckit.CodecError:
                torn += 1
    print(json.dumps({"kills": counted, "sound": sound, "torn": torn, "most_temporaries": most_temporaries}))


if __name__ == "__main__":
    main(*sys.argv[1:])
