"""Turning ``KEY=VALUE`` settings and presets into a codec's validated parameters."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from ..formats.errors import InvalidParameter
from .plugins import nearest

__all__ = ["FieldHelp", "Range", "Size", "describe_parameters", "make_parameters"]


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """A picture size in pixels, written ``320x160``."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size:
        width, separator, height = text.lower().partition("x")
        if not (separator and width.isdecimal() and height.isdecimal()):
            raise InvalidParameter(f"{text!r} is not a size such as 320x160")
        size = cls(int(width), int(height))
        if size.width < 1 or size.height < 1:
            raise InvalidParameter(f"{text!r} has an empty side")
        return size

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """A half-open range ``A:B``; either end may be left out."""

    start: int
    stop: int | None

    @classmethod
    def parse(cls, text: str) -> Range:
        start, separator, stop = text.partition(":")
        if not separator or not all(part == "" or part.isdecimal() for part in (start, stop)):
            raise InvalidParameter(f"{text!r} is not a range such as 0:32")
        result = cls(int(start or 0), int(stop) if stop else None)
        if result.stop is not None and result.stop <= result.start:
            raise InvalidParameter(f"{text!r} is an empty range")
        return result

    def __str__(self) -> str:
        return f"{self.start}:{'' if self.stop is None else self.stop}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FieldHelp:
    """One settable parameter: its name, type, default and meaning."""

    name: str
    type: str
    default: str
    help: str


def make_parameters(
    params: type, presets: Mapping[str, Mapping[str, Any]], preset: str, settings: Mapping[str, Any]
) -> Any:
    """Build ``params`` from a preset, overridden by ``settings`` (strings are parsed, values are checked).

    Raises :class:`InvalidParameter` naming the nearest preset or field.
    """
    if preset not in presets:
        raise InvalidParameter(f"no preset is called {preset!r}{nearest(preset, presets)}")
    hints = _type_hints(params)
    fields = [field.name for field in dataclasses.fields(params)]
    values = dict(presets[preset])
    for name, value in settings.items():
        if name not in fields:
            raise InvalidParameter(f"no setting is called {name!r}{nearest(name, fields)}")
        values[name] = _convert(name, value, hints[name])
    return params(**values)


def describe_parameters(params: type) -> list[FieldHelp]:
    """The settable fields of ``params``; help texts come from ``field(metadata={"help": ...})``."""
    hints = _type_hints(params)
    return [
        FieldHelp(
            name=field.name,
            type=_type_name(hints[field.name]),
            default="" if field.default is dataclasses.MISSING else str(field.default),
            help=field.metadata.get("help", ""),
        )
        for field in dataclasses.fields(params)
    ]


@cache
def _type_hints(params: type) -> dict[str, Any]:
    """Resolved once: it takes as long as coding a small picture."""
    return typing.get_type_hints(params)


def _convert(name: str, value: Any, hint: Any) -> Any:
    options = _options(hint)
    if not isinstance(value, str):
        return _check_type(name, value, options)
    if type(None) in options and value.lower() == "none":
        return None
    for option in options:
        if option is type(None):
            continue
        return _parse(name, value, option)
    raise TypeError(f"parameter {name} has no type that can be set")


def _options(hint: Any) -> tuple[Any, ...]:
    origin = get_origin(hint)
    return get_args(hint) if origin in (typing.Union, types.UnionType) else (hint,)


def _check_type(name: str, value: Any, options: tuple[Any, ...]) -> Any:
    for option in options:
        if get_origin(option) is Literal:
            if value in get_args(option):
                return value
        elif option is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        elif option is int and isinstance(value, bool):
            continue
        elif isinstance(option, type) and isinstance(value, option):
            return value
        elif option is Size and _is_pair(value):
            return Size(*value)
        elif option is Range and _is_pair(value):
            return Range(*value)
    raise InvalidParameter(f"{name}={value!r} is a {type(value).__name__}, expected {_join(options)}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(type(v) is int for v in value)


def _parse(name: str, text: str, option: Any) -> Any:
    if get_origin(option) is Literal:
        by_text = {str(choice): choice for choice in get_args(option)}
        if text not in by_text:
            raise InvalidParameter(f"{name}={text}{nearest(text, by_text)}")
        return by_text[text]
    if option is bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise InvalidParameter(f"{name}={text} is not true or false")
    if option in (Size, Range):
        try:
            return option.parse(text)
        except InvalidParameter as error:
            raise InvalidParameter(f"{name}: {error}") from error
    try:
        return option(text)
    except ValueError as error:
        raise InvalidParameter(f"{name}={text} is not a valid {option.__name__}") from error


def _type_name(hint: Any) -> str:
    return _join(_options(hint))


def _join(options: tuple[Any, ...]) -> str:
    names: list[str] = []
    for option in options:
        if get_origin(option) is Literal:
            names.extend(str(choice) for choice in get_args(option))
        else:
            names.append("none" if option is type(None) else option.__name__)
    return "|".join(names)
