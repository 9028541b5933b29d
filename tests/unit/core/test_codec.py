"""Claims about `core.codec`: any text decodes to the right types, or is Malformed in one line."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core import codec
from dct_celery.core.codec import (
    MAX_INT,
    AtLeast,
    AtMost,
    Count,
    Json,
    Malformed,
    Matches,
    Number,
    Seconds,
)
from dct_celery.core.model import FixtureRef


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Inner:
    name: Annotated[str, Matches(r"[a-z]{1,8}")]
    count: Count = 0


@dataclass(frozen=True, slots=True)
class Outer:
    text: str
    number: int
    flag: bool
    inner: Inner
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    seconds: Seconds = 0.0
    least: Annotated[int, AtLeast(3)] = 3
    short: Annotated[str, AtMost(5)] = ""
    maybe: int | None = None
    many: tuple[Inner, ...] = ()
    pair: tuple[tuple[Count, Seconds], ...] = ()
    numbers: list[int] = field(default_factory=list)
    table: dict[str, Number] = field(default_factory=dict)
    view: Mapping[str, float] = field(default_factory=dict)
    fixture: FixtureRef | None = None
    plain: Json = None


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["red", "a", "abc", 0, 1, 3]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([one.name for one in fields(Outer)] + ["name", "count"]) | st.text(),
            inner,
            max_size=12,
        )
    ),
    max_leaves=20,
)
GOOD: dict[str, Any] = {"text": "é\udcff", "number": -1, "flag": True, "inner": {"name": "abc"}}


def is_right(value: Any) -> None:
    """Types, and what the hints say beyond them."""
    assert type(value) is Outer
    assert (type(value.text), type(value.number), type(value.flag)) == (str, int, bool)
    assert abs(value.number) <= MAX_INT
    assert (type(value.inner), type(value.colour)) == (Inner, Colour)
    assert value.kind in ("a", "b")
    assert type(value.seconds) is float
    assert math.isfinite(value.seconds)
    assert value.seconds >= 0
    assert value.least >= 3
    assert len(value.short) <= 5
    assert all(type(one) is Inner for one in value.many)
    assert all(type(key) is str and number >= 1 for key, number in value.table.items())


@given(JSON)
def test_any_json_is_an_instance_or_malformed(value: Any) -> None:
    try:
        found = codec.decode(Outer, value)
    except Malformed as error:
        one_line(error)
    else:
        is_right(found)


@given(
    st.fixed_dictionaries(
        {name: st.just(value) | JSON for name, value in GOOD.items()},
        optional={one.name: JSON for one in fields(Outer) if one.name not in GOOD},
    )
)
def test_what_is_almost_right_is_an_instance_or_malformed(value: dict[str, Any]) -> None:
    try:
        found = codec.decode(Outer, value)
    except Malformed as error:
        one_line(error)
    else:
        is_right(found)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_any_text_is_a_value_or_malformed(text: str | bytes) -> None:
    try:
        codec.loads(text)
    except Malformed as error:
        one_line(error)


def one_line(error: Malformed) -> None:
    text = str(error)
    assert text
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 500


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "nul", "NaN", "Infinity", "-Infinity", '{"a": NaN}', "[1, -Infinity]", "'a'",
        '"\n"', "1 2", "[1,]", "\ufeff{}", "[" * 100_000, "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000, "1" * 5000, "-" + "9" * 100_000, b"\xff\xfe", b"{\xff}",
    ],
    ids=map(str, itertools.count()),
)  # fmt: skip
def test_what_is_no_json_is_malformed(text: str | bytes) -> None:
    with pytest.raises(Malformed, match=r"^not JSON"):
        codec.loads(text)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("text", 1, "text: must be text, not 1"),
        ("text", None, "text: must be text, not None"),
        ("text", ["a"], "text: must be text, not a list"),
        ("number", "1", "number: must be a whole number, not '1'"),
        ("number", 1.0, "number: must be a whole number, not 1.0"),
        ("number", True, "number: must be a whole number, not True"),
        ("number", MAX_INT + 1, "number: must be a whole number, not one beyond 2**53"),
        ("number", -(10**4000), "number: must be a whole number"),
        ("number", 10**6000, "number: must be a whole number"),
        ("flag", 1, "flag: must be true or false, not 1"),
        ("flag", "true", "flag: must be true or false, not 'true'"),
        ("inner", "abc", "inner: Inner must be an object, not 'abc'"),
        ("inner", {}, "inner: Inner lacks name"),
        ("inner", {"name": "ABC"}, "inner: name: must match"),
        ("inner", {"name": "abc\n"}, "inner: name: must match"),
        ("inner", {"name": "abc", "more": 1}, "inner: Inner has no field 'more'"),
        ("inner", {"name": "abc", "count": -1}, "inner: count: must be at least 0, not -1"),
        ("inner", {"name": "abc", "\x1b[2J": 1}, r"inner: Inner has no field '\x1b[2J'"),
        ("colour", "green", "colour: must be one of red, blue, not 'green'"),
        ("colour", ["red"], "colour: must be one of red, blue, not a list"),
        ("colour", {}, "colour: must be one of red, blue, not an object"),
        ("kind", "c", "kind: must be one of a, b, not 'c'"),
        ("kind", [], "kind: must be one of a, b, not a list"),
        ("seconds", -0.1, "seconds: must be at least 0, not -0.1"),
        ("seconds", math.nan, "seconds: must be a number, not nan"),
        ("seconds", math.inf, "seconds: must be a number, not inf"),
        ("seconds", 10**400, "seconds: must be a number"),
        ("seconds", True, "seconds: must be a number, not True"),
        ("seconds", "1", "seconds: must be a number, not '1'"),
        ("least", 2, "least: must be at least 3, not 2"),
        ("short", "x" * 6, "short: must not be longer than 5, it has 6"),
        ("maybe", "1", "maybe: must be a whole number, not '1'"),
        ("many", {}, "many: must be a list, not an object"),
        ("many", "abc", "many: must be a list, not 'abc'"),
        ("many", [{}], "many: Inner lacks name"),
        ("pair", [[1]], "pair: must be a list of 2, not a list"),
        ("pair", [[1, 2, 3]], "pair: must be a list of 2, not a list"),
        ("pair", ["ab"], "pair: must be a list of 2, not 'ab'"),
        ("pair", [[1, "2"]], "pair: must be a number, not '2'"),
        ("numbers", [1, None], "numbers: must be a whole number, not None"),
        ("table", [["a", 1]], "table: must be an object, not a list"),
        ("table", {"a": 0}, "table: must be at least 1, not 0"),
        ("view", {"a": "b"}, "view: must be a number, not 'b'"),
        ("fixture", "setUpClass", "fixture: is not a valid FixtureRef"),
        ("fixture", 7, "fixture: is not a valid FixtureRef"),
        ("fixture", {}, "fixture: is not a valid FixtureRef"),
        ("fixture", "\x1b[2Jé", "fixture: is not a valid FixtureRef"),
    ],
    ids=map(str, itertools.count()),
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_field(name: str, value: Any, said: str) -> None:
    # When
    with pytest.raises(Malformed) as caught:
        codec.decode(Outer, {**GOOD, name: value})
    # Then
    assert str(caught.value).startswith(said)
    one_line(caught.value)


@pytest.mark.parametrize("value", [None, 1, "x", [], [GOOD], True, 1.5])
def test_what_is_no_object_is_malformed(value: Any) -> None:
    with pytest.raises(Malformed, match=r"^Outer must be an object"):
        codec.decode(Outer, value)


@pytest.mark.parametrize("name", GOOD)
def test_a_field_without_a_default_is_needed(name: str) -> None:
    with pytest.raises(Malformed, match=rf"^Outer lacks {name}$"):
        codec.decode(Outer, {key: value for key, value in GOOD.items() if key != name})


def test_unknown_fields_are_ignored_where_that_is_wanted() -> None:
    # Given
    later = {**GOOD, "of a later version": [1], "inner": {"name": "abc"}}
    # Then
    assert codec.decode(Outer, later, lenient=True) == codec.decode(Outer, GOOD)
    with pytest.raises(Malformed, match="has no field"):
        codec.decode(Outer, later)


INNERS = st.builds(Inner, st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(0, MAX_INT))
OUTERS = st.builds(
    Outer,
    text=st.text() | st.just("\udcff\0"),
    number=st.integers(-MAX_INT, MAX_INT),
    flag=st.booleans(),
    inner=INNERS,
    colour=st.sampled_from(Colour),
    kind=st.sampled_from(["a", "b"]),
    seconds=st.floats(0, 1e15),
    least=st.integers(3, MAX_INT),
    short=st.text(max_size=5),
    maybe=st.none() | st.integers(-5, 5),
    many=st.lists(INNERS, max_size=3).map(tuple),
    pair=st.lists(st.tuples(st.integers(0, 9), st.floats(0, 9)), max_size=3).map(tuple),
    numbers=st.lists(st.integers(-9, 9), max_size=3),
    table=st.dictionaries(st.text(), st.integers(1, 9), max_size=3),
    view=st.dictionaries(st.text(), st.floats(-9, 9), max_size=3),
    fixture=st.none() | st.just(FixtureRef.parse("setUpClass (a.T)")),
    plain=st.none() | st.booleans() | st.text() | st.lists(st.integers(0, 5), max_size=3),
)


@given(OUTERS)
def test_an_instance_comes_back_as_it_was(value: Outer) -> None:
    # When
    text = codec.dumps(value)
    # Then
    assert text.isascii()
    assert "\n" not in text
    assert codec.decode(Outer, codec.loads(text)) == value
    assert codec.loads(text) == codec.encode(value)


def test_what_has_its_default_is_left_out() -> None:
    assert codec.encode(codec.decode(Outer, GOOD)) == GOOD


def test_a_test_that_patches_json_does_not_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(json, "loads", None)
    monkeypatch.setattr(json, "dumps", None)
    # Then
    assert codec.loads(codec.dumps({"a": 1})) == {"a": 1}


def test_what_has_no_json_form_is_a_fault_of_ours() -> None:
    with pytest.raises(TypeError, match="set has no JSON form"):
        codec.dumps({"a": {1}})
