"""Claims about the texts in which reports of pytest travel."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import pytest

from dct_celery.core.codec import Malformed
from dct_celery.wire import pytest_reports
from dct_celery.wire.pytest_reports import (
    TOP_NAME,
    Input,
    SessionReports,
    TestReports,
    dumps,
    loads,
    packed,
    plain,
    split_arguments,
    unpacked,
    with_root_inside,
    without_root_inside,
)

ROOT = "/builds/shop"
NODEID = "tests/test_cart.py::test_total[a::b]"


class Word(str):
    """A text to look at, and no plain one."""


def report(when: str = "call", **more: Any) -> dict[str, Any]:
    return {
        "nodeid": NODEID,
        "location": ("tests/test_cart.py", 3, "test_total[a::b]"),
        "keywords": {"test_total": 1, "tests": 1},
        "outcome": "passed",
        "longrepr": None,
        "when": when,
        "user_properties": [],
        "sections": [],
        "duration": 0.25,
        "start": 10.0,
        "stop": 10.25,
        "$report_type": "TestReport",
        **more,
    }


def there_and_back(
    events: list[tuple[str, dict[str, Any]]], root: str = ROOT, here: str = ROOT
) -> list[tuple[str, dict[str, Any]]]:
    return TestReports.read(TestReports(events).text(root), NODEID, here).events


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_reports_arrive_as_they_were() -> None:
    # Given
    failed = report(outcome="failed", longrepr="assert 1 == 2", sections=[["Captured", "x"]])
    events = [("report", report("setup")), ("report", failed), ("report", report("teardown"))]
    # Then
    assert there_and_back(events) == as_json([list(one) for one in events]) or (
        [as_json(list(one)) for one in there_and_back(events)] == as_json([*map(list, events)])
    )


def test_what_nearly_all_tests_report_is_short() -> None:
    # Given
    events = [("report", report(when)) for when in ("setup", "call", "teardown")]
    # When
    text = TestReports(events).text(ROOT)
    # Then
    assert len(text) < 300
    assert [data["when"] for _, data in there_and_back(events)] == ["setup", "call", "teardown"]
    assert all(as_json(data) == as_json(report(data["when"])) for _, data in there_and_back(events))


@pytest.mark.parametrize(
    "more",
    [{"extra": 1}, {"user_properties": [["a", 1]]}, {"sections": [["a", "b"]]}, {"keywords": {}}],
)
def test_a_report_with_anything_more_is_not_shortened(more: dict[str, Any]) -> None:
    # Given
    events = [("report", report("setup")), ("report", report("call", **more))]
    # Then
    assert as_json(there_and_back(events)[1][1]) == as_json(report("call", **more))


def test_paths_of_the_tree_are_those_of_the_reader() -> None:
    # Given
    failed = report(outcome="failed", longrepr=f'File "{ROOT}/tests/a.py" not {ROOT}x/b.py')
    # When
    ((_, data),) = there_and_back([("report", failed)], here='/home/"ci"/shop')
    # Then
    assert data["longrepr"] == f'File "/home/"ci"/shop/tests/a.py" not {ROOT}x/b.py'


class Shy:
    def __repr__(self) -> str:
        raise RuntimeError("never")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1}, [1]),
        ({("a", 1): "x"}, {"('a', 1)": "x"}),
        (b"\xff", r"b'\xff'"),
        (math.nan, "nan"),
        (2**80, str(2**80)),
        (Shy(), "<Shy: its repr fails with RuntimeError>"),
        ("\udc80\x00", "\udc80\x00"),
    ],
)
def test_whatever_a_plugin_attaches_becomes_json(value: Any, expected: Any) -> None:
    assert loads(dumps({"x": value, "y": object})) == {"x": expected, "y": "<class 'object'>"}


def test_what_contains_itself_ends() -> None:
    # Given
    endless: list[Any] = []
    endless.append(endless)
    # Then
    assert isinstance(plain(endless), list)
    assert loads(dumps(endless))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"events": 1}', '{"events": [[1]]}', "null"])
def test_a_text_that_is_no_report_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        TestReports.read(text, NODEID, ROOT)


def test_a_text_that_is_no_collection_is_malformed() -> None:
    with pytest.raises(Malformed):
        SessionReports.read('{"collectors": [], "unknown": 1}', ROOT)


def test_the_input_comes_before_the_words_of_the_user() -> None:
    # Given
    given = Input("run", 3, ("pytest", "-x"), 7, {"randomly_seed": 5, "service": b"\x80\x04."})
    # Then
    assert split_arguments([given.argument(), "-k", "x"]) == (given, ("-k", "x"))
    assert split_arguments(["-k", "x"]) == (None, ("-k", "x"))
    assert split_arguments([]) == (None, ())


def test_the_id_of_the_process_comes_with_its_reports() -> None:
    # Given
    text = TestReports([("report", report())], "gw17").text(ROOT)
    # Then
    assert TestReports.read(text, NODEID, ROOT).worker == "gw17"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -7,
        2**60,
        1.5,
        math.inf,
        "text",
        b"\x00\xff",
        zlib.compress(b"text"),
        zlib.compress(b"\xff"),
        [1, [b"x"]],
        (1, ("a",)),
        {1, 2},
        frozenset({"a"}),
        {"a": {"b": b"c"}},
        {1: "a", ("b", 2): None},
        {"\ue000type\ue000": "int"},
    ],
    ids=repr,
)
def test_what_xdist_carries_arrives_as_it_was(value: Any) -> None:
    # When
    found = unpacked(loads(json.dumps(packed(value))))
    # Then
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [object(), Word("x"), [object()], {"a": {1: object()}}])
def test_what_xdist_refuses_is_refused_or_replaced(value: Any) -> None:
    # Then
    with pytest.raises(TypeError, match="does not travel to other machines"):
        packed(value)
    assert loads(json.dumps(packed(value, lambda other: "instead")))


@pytest.mark.parametrize("kind", ["bytes", "int", "dict", "object", "float"])
def test_a_value_of_a_type_that_it_is_not_is_malformed(kind: str) -> None:
    with pytest.raises(Malformed):
        unpacked({"\ue000type\ue000": kind, "value": "no"})


def test_paths_in_compressed_text_are_those_of_the_machine_that_reads_it() -> None:
    # Given
    place = f"{ROOT}/é.ambr"
    output = {"report": [zlib.compress(json.dumps({place: 1}).encode())], "sum": (b"x", 1)}
    # When
    data = unpacked(packed(without_root_inside(output, ROOT)))
    found = with_root_inside(data, "/home/ci/ü")
    # Then
    assert json.loads(zlib.decompress(found["report"][0])) == {"/home/ci/ü/é.ambr": 1}
    assert found["sum"] == (b"x", 1)


@pytest.mark.parametrize("value", [b"\xff", zlib.compress(b"\xff"), zlib.compress(b"text")[:-1]])
def test_other_bytes_are_passed_on_as_they_are(value: bytes) -> None:
    assert without_root_inside({"a": value}, ROOT) == {"a": value}


def test_a_bomb_is_passed_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(pytest_reports, "_LARGEST", 1000)
    bomb = zlib.compress(b"0" * 1001)
    # Then
    assert with_root_inside([bomb], ROOT) == [bomb]


def test_the_name_of_the_folder_is_that_of_the_machine_that_reads_it() -> None:
    # Given
    text = TestReports([("report", report(keywords={TOP_NAME: 1, "x": 1}))]).text(ROOT)
    # When
    ((_, data),) = TestReports.read(text, NODEID, "/home/ci").events
    # Then
    assert data["keywords"] == {"ci": 1, "x": 1}


def test_a_value_of_endless_depth_is_malformed() -> None:
    # Given
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    # Then
    with pytest.raises(Malformed):
        unpacked(deep)


@pytest.mark.parametrize(
    "event", [{}, {"unknown": {}}, {"xml": {"name": "a"}}, {"note": []}, {"note": {}, "retry": {}}]
)
def test_an_event_that_lacks_something_is_malformed(event: dict[str, Any]) -> None:
    # Given
    text = json.dumps({"worker": "gw1", "location": None, "keywords": [], "events": [event]})
    # Then
    with pytest.raises(Malformed):
        TestReports.read(text, NODEID, ROOT)


def test_a_type_without_a_value_is_malformed() -> None:
    with pytest.raises(Malformed):
        unpacked({"\ue000type\ue000": "tuple"})
