"""Canonical JSON: one value has exactly one encoding, and hostile text is refused.

Keys sorted by code point, no white space, UTF-8, and of numbers only integers of magnitude below 2**53, so that
every language reads the same values. Fractions are written as pairs of integers or as strings.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from .errors import CorruptFile, InvalidParameter

__all__ = ["MAX_DEPTH", "JsonObject", "JsonValue", "dump", "load"]

JsonValue = None | bool | int | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, JsonValue]

MAX_DEPTH = 16
_MAX_INTEGER = 1 << 53
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


def dump(value: JsonObject) -> bytes:
    """Encode ``value``; raises :class:`InvalidParameter` for floats and other unrepresentable values."""
    problem = _problem(value, depth=0)
    if problem is not None:
        raise InvalidParameter(f"header value cannot be written: {problem}")
    return _encode(value)


def load(data: bytes) -> JsonObject:
    """Decode canonical JSON; raises :class:`CorruptFile` for anything else."""
    if _nesting(data) > MAX_DEPTH:
        raise CorruptFile(f"header JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_refuse_float,
            parse_int=_parse_integer,
        )
    except UnicodeDecodeError as error:
        raise CorruptFile(f"header JSON is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise CorruptFile(f"header is not JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(value, dict):
        raise CorruptFile("header JSON is not an object")
    problem = _problem(value, depth=0)
    if problem is not None:
        raise CorruptFile(f"header JSON holds a forbidden value: {problem}")
    if _encode(value) != data:
        raise CorruptFile("header JSON is not in canonical form (sorted keys, no white space)")
    return value


def _encode(value: JsonObject) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def _problem(value: object, *, depth: int) -> str | None:
    """Say what keeps ``value`` from being canonical JSON, or None."""
    if depth > MAX_DEPTH:
        return f"nesting deeper than {MAX_DEPTH}"
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return "a lone surrogate in a string" if _has_surrogate(value) else None
    if isinstance(value, int):
        return None if abs(value) < _MAX_INTEGER else f"integer {value} beyond 2**53"
    if isinstance(value, list):
        found = (_problem(item, depth=depth + 1) for item in value)
        return next((problem for problem in found if problem), None)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"key {key!r} is not a string"
            problem = _problem(key, depth=depth) or _problem(item, depth=depth + 1)
            if problem is not None:
                return problem
        return None
    return f"{type(value).__name__} {value!r}"


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _nesting(data: bytes) -> int:
    """The greatest bracket depth, counted before the recursive parser sees the text."""
    depth = deepest = 0
    for byte in _STRING.sub(b"", data):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise CorruptFile(f"header JSON has the key {twice!r} twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise CorruptFile(f"header JSON holds {name}")


def _refuse_float(text: str) -> NoReturn:
    raise CorruptFile(f"header JSON holds the fraction {text[:40]}; only integers are allowed")


def _parse_integer(text: str) -> int:
    if len(text) > 17:
        raise CorruptFile(f"header JSON holds the integer {text[:40]} beyond 2**53")
    return int(text)
