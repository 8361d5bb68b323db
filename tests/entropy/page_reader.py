"""A second reader of lane blocks, written from ``docs/entropy.md`` alone, in plain Python and for reading only."""

from __future__ import annotations

import hashlib
from bisect import bisect_right

import xxhash


class Bits:
    """A bit field, most significant bit first."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.at = data, 8 * position

    def take(self, width: int) -> int:
        value = 0
        for _ in range(width):
            value = value << 1 | self.data[self.at >> 3] >> (7 - self.at % 8) & 1
            self.at += 1
        return value

    def golomb(self, order: int) -> int:
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
        high = 1 << zeros | self.take(zeros)
        return (high - 1) << order | self.take(order)

    def end(self) -> int:
        return -(-self.at // 8)


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def signed(code: int) -> int:
    return code // 2 if code % 2 == 0 else -(code + 1) // 2


def packed(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    smallest, at = varint(data, at)
    bits = Bits(data, at + 1)
    values = [smallest + bits.take(data[at]) for _ in range(count)]
    return values, bits.end()


def table(data: bytes, at: int) -> tuple[dict, int]:
    predictor, escape, shift = data[at] & 3, data[at] >> 2 & 1, data[at] >> 3
    slots, at = varint(data, at + 1)
    minimum, at = varint(data, at)
    bits = Bits(data, at)
    values: list[int] = []
    p = b = n = 1
    total, order = 4, 2
    while len(values) < slots:
        c = bits.golomb(order)
        if predictor == 0:
            v = c + 1
        elif predictor == 1:
            v = p + signed(c)
        else:
            v = min(max(p * p // b, 1), 1 << 24) + signed(c)
        total, n = total + c, n + 1
        if n == 8:
            total, n = total // 2, n // 2
        order = max((total // n).bit_length() - 1, 0)
        values.append(v)
        p, b = v, p
        if v == 1 and (run := bits.golomb(0)):
            values += [1] * run
            p = b = 1
    frequencies = [v << shift for v in values]
    cdf = [0]
    for frequency in frequencies:
        cdf.append(cdf[-1] + frequency)
    assert cdf[-1] == 1 << 24
    return {"minimum": signed(minimum), "escape": escape, "cdf": cdf, "slots": slots}, bits.end()


def digest(one: dict) -> str:
    frequencies = [high - low for low, high in zip(one["cdf"], one["cdf"][1:], strict=False)]
    text = f"{one['minimum']},{one['escape']};".encode()
    return hashlib.sha256(text + b"".join(f.to_bytes(4, "little") for f in frequencies)).hexdigest()


def escape_section(data: bytes, count: int) -> list[int]:
    bits = Bits(data, 0)
    widths = []
    for _ in range(count):
        width = 0
        while bits.take(1) == 0:
            width += 1
        widths.append(width)
    codes = [(1 << width | bits.take(width)) - 1 for width in widths]
    assert bits.end() == len(data)
    return codes


def read_block(data: bytes) -> list[list[int]]:
    """The values of each lane of a block that carries its tables."""
    assert xxhash.xxh3_64_intdigest(data[:-8]) == int.from_bytes(data[-8:], "little")
    assert data[0] == 1
    inside, one_row = data[1] & 1, data[1] >> 1 & 1
    lanes, at = varint(data, 2)
    table_count, at = varint(data, at)
    group, at = varint(data, at)
    assert inside
    tables = []
    for _ in range(table_count):
        one, at = table(data, at)
        tables.append(one)
    counts, at = packed(data, at, lanes)
    rows = [[0] * count for count in counts]
    if group:
        groups = [-(-count // group) for count in counts]
        numbers, at = packed(data, at, max(groups, default=0) if one_row else sum(groups))
        first = 0
        for lane in range(lanes):
            rows[lane] = [numbers[first + t // group] for t in range(counts[lane])]
            first += 0 if one_row else groups[lane]
    word_counts, at = packed(data, at, lanes)
    escape_counts, at = packed(data, at, lanes)
    escape_sizes = [0] * lanes
    if any(escape_counts):
        escape_sizes, at = packed(data, at, lanes)
    at += -at % 4
    escapes_at = at + 4 * sum(word_counts)
    assert escapes_at + sum(escape_sizes) == len(data) - 8
    result = []
    for lane in range(lanes):
        words = [int.from_bytes(data[at + 4 * i : at + 4 * i + 4], "little") for i in range(word_counts[lane])]
        at += 4 * word_counts[lane]
        codes = iter(escape_section(data[escapes_at : escapes_at + escape_sizes[lane]], escape_counts[lane]))
        escapes_at += escape_sizes[lane]
        result.append(lane_values(words, [tables[number] for number in rows[lane]], codes))
        assert next(codes, None) is None
    return result


def lane_values(words: list[int], rows: list[dict], codes) -> list[int]:
    state = 0
    for _ in range(2):
        if words:
            state = state << 32 | words.pop()
    values = []
    for one in rows:
        cdf, minimum = one["cdf"], one["minimum"]
        q = state % (1 << 24)
        s = bisect_right(cdf, q) - 1
        state = (state >> 24) * (cdf[s + 1] - cdf[s]) + q - cdf[s]
        if state < 1 << 32 and words:
            state = state << 32 | words.pop()
        if one["escape"] and s == one["slots"] - 1:
            code = next(codes)
            maximum = minimum + one["slots"] - 2
            values.append(minimum - 1 - code // 2 if code % 2 else maximum + 1 + code // 2)
        else:
            values.append(minimum + s)
    assert state == 0
    assert not words
    return values
