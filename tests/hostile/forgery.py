"""Throws forged files at the codecs: damaged inside, but with every checksum made right again.

Run as ``python forgery.py FILE COUNT SECONDS``; it stops after COUNT files or SECONDS of processor time. A forged file
may decode to something, because nothing can tell it from a real one; but nothing other than CodecError may escape, no
attempt may take long, and memory is capped. Prints one JSON object.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import codeckit
from codeckit.formats.chunk import Chunk
from codeckit.formats.header import Header
from codeckit.formats.reader import ContainerReader
from codeckit.formats.writer import ContainerWriter

MEMORY_BYTES = 256 << 20
EXTREMES = (0, 1, -1, 2, 255, 65_535, 2**31 - 1, 2**31, 2**40, 2**53 - 1, -(2**53) + 1)


def forged(header: Header, chunks: list[Chunk], generator: random.Random) -> tuple[str, bytes]:
    """One forged file and what was done to it."""
    pieces = list(chunks)
    what = generator.choice(("payload", "payload", "parameters", "drop", "repeat", "swap", "cut"))
    if what == "parameters":
        header = dataclasses.replace(header, parameters=forged_value(header.parameters, generator))
    elif pieces:
        position = generator.randrange(len(pieces))
        chunk = pieces[position]
        if what == "payload":
            pieces[position] = dataclasses.replace(chunk, payload=damaged(chunk.payload, generator))
        elif what == "cut":
            length = generator.randrange(len(chunk.payload) + 1)
            pieces[position] = dataclasses.replace(chunk, payload=chunk.payload[:length])
        elif what == "drop":
            del pieces[position]
        elif what == "repeat":
            pieces.insert(position, chunk)
        else:
            pieces.insert(generator.randrange(len(pieces)), pieces.pop(position))
    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    writer.write_header(header)
    for chunk in pieces:
        writer.write_chunk(chunk.type, chunk.payload, span=chunk.span or (), decoded_size=chunk.decoded_size)
    writer.finish()
    return what, stream.getvalue()


def forged_value(value: Any, generator: random.Random) -> Any:
    """``value`` with one leaf or member changed."""
    if isinstance(value, dict) and value:
        key = generator.choice(sorted(value))
        if generator.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: forged_value(value[key], generator)}
    if isinstance(value, list) and value:
        position = generator.randrange(len(value))
        if generator.random() < 0.1:
            return value[:position]
        return [*value[:position], forged_value(value[position], generator), *value[position + 1 :]]
    others = (None, True, "", "x" * 100, [], {}, *EXTREMES)
    return generator.choice(others)


def damaged(payload: bytes, generator: random.Random) -> bytes:
    data = bytearray(payload)
    for _ in range(generator.randint(1, 4)):
        if not data:
            return b"\xff" * generator.randint(0, 20)
        # lengths and tables stand at the start, so half the damage is done there
        reach = min(len(data), 24) if generator.random() < 0.5 else len(data)
        data[generator.randrange(reach)] = generator.choice((0, 1, 127, 128, 255, generator.randrange(256)))
    return bytes(data)


def main(path: str, count: str, seconds: str) -> None:
    source = Path(path).read_bytes()
    codeckit.decode(source)  # imports everything before memory is capped
    start = time.process_time()
    codeckit.decode(source)
    honest = time.process_time() - start
    with ContainerReader(source) as reader:
        header, chunks = reader.header, list(reader.chunks())
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, in_use + MEMORY_BYTES))
    generator = random.Random(20260102)
    escaped: list[str] = []
    tried, refused, slowest = 0, 0, 0.0
    end = time.process_time() + float(seconds)
    for number in range(int(count)):
        if time.process_time() > end:
            break
        tried += 1
        what, data = forged(header, chunks, generator)
        start = time.process_time()
        try:
            codeckit.decode(data)
        except codeckit.CodecError:
            refused += 1
        except BaseException as error:  # the point of the test is that nothing of any kind escapes
            where = traceback.extract_tb(error.__traceback__)[-1]
            escaped.append(f"{what} {number}: {type(error).__name__}: {error} at {where.filename}:{where.lineno}")
        slowest = max(slowest, time.process_time() - start)
    seen = {"tried": tried, "refused": refused, "escaped": escaped[:20], "slowest": slowest, "honest": honest}
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
