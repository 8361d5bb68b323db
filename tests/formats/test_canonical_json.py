"""Header JSON: one encoding for each value, and hostile text refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeckit import CorruptFile, InvalidParameter
from codeckit.formats.canonical_json import MAX_DEPTH, dump, load

scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), values))
def test_values_come_back_and_have_one_encoding(value):
    data = dump(value)
    assert load(data) == value
    assert dump(load(data)) == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1.5}', "fraction"),
        (b'{"a":1e3}', "fraction"),
        (b'{"a":9007199254740992}', "2..53"),
        (b'{"a":' + b"9" * 5000 + b"}", "2..53"),
        (b'{"a": 1}', "canonical"),
        (b'{"b":1,"a":2}', "canonical"),
        (b'{"a":"\\u0041"}', "canonical"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b"[1]", "not an object"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"a":' + b"[" * 20 + b"]" * 20 + b"}", "nested"),
        (b"[" * 1_000_000, "nested"),
    ],
)
def test_hostile_text_is_refused(text: bytes, message: str):
    with pytest.raises(CorruptFile, match=message):
        load(text)


def test_nesting_up_to_the_limit_is_fine():
    value: object = 1
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert load(dump({"a": value})) == {"a": value}  # type: ignore[dict-item]


def test_brackets_in_strings_are_no_nesting():
    value = {"a": '["' + "[" * 40 + "\\", "[[[[[[[[[[[[[[[[[[[[": '\\"{'}
    assert load(dump(value)) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.5, float("nan"), 2**53, b"x", {"a": object()}, {1: 2}])
def test_what_has_no_canonical_form_is_not_written(value: object):
    with pytest.raises(InvalidParameter):
        dump({"key": value})  # type: ignore[dict-item]
