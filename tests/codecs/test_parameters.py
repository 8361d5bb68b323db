"""Settings become typed, validated parameters, and mistakes name the nearest right word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from codeckit import InvalidParameter
from codeckit.codecs.parameters import Range, Size, describe_parameters, make_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    epochs: int = 3
    rate: float = 0.5
    exact: bool = False
    mode: Literal["fast", "slow"] = "fast"
    size: Size | None = None
    frames: Range | None = None


PRESETS: dict[str, dict[str, Any]] = {"quick": {}, "long": {"epochs": 300}}


def make(**settings: Any) -> Params:
    made: Params = make_parameters(Params, PRESETS, "quick", settings)
    return made


def test_words_are_parsed_by_their_type():
    made = make(epochs="7", rate="1e-3", exact="yes", mode="slow", size="320x160", frames="4:")
    assert made == Params(epochs=7, rate=1e-3, exact=True, mode="slow", size=Size(320, 160), frames=Range(4, None))
    assert make(size="none").size is None


def test_values_of_the_right_type_pass_as_they_are():
    made = make(epochs=7, rate=1, size=(320, 160), frames=(0, 8))
    assert (made.epochs, made.rate, made.size, made.frames) == (7, 1.0, Size(320, 160), Range(0, 8))


def test_settings_override_the_preset():
    assert make_parameters(Params, PRESETS, "long", {}).epochs == 300
    assert make_parameters(Params, PRESETS, "long", {"epochs": "2"}).epochs == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": "1"}, "did you mean 'epochs'"),
        ({"zzz": "1"}, "there are"),
        ({"epochs": "x"}, "not a valid int"),
        ({"epochs": "1.5"}, "not a valid int"),
        ({"epochs": True}, "expected int"),
        ({"epochs": 1.5}, "expected int"),
        ({"rate": "fast"}, "not a valid float"),
        ({"exact": "maybe"}, "not true or false"),
        ({"mode": "fas"}, "did you mean 'fast'"),
        ({"size": "320"}, "not a size"),
        ({"size": "0x5"}, "empty side"),
        ({"frames": "5"}, "not a range"),
        ({"frames": "5:5"}, "empty range"),
        ({"frames": "-1:5"}, "not a range"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(InvalidParameter, match=message):
        make(**settings)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(InvalidParameter, match="did you mean 'quick'"):
        make_parameters(Params, PRESETS, "quik", {})


def test_fields_describe_themselves():
    described = {item.name: item for item in describe_parameters(Params)}
    assert described["mode"].type == "fast|slow"
    assert described["size"].type == "Size|none"
    assert described["epochs"].default == "3"
