"""Claims about timings as text: what comes back, what is read of others, what is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.core.plan import timing_format
from dct_celery.core.plan.planner import Planner, atoms
from dct_celery.core.plan.timing_format import (
    BadTimings,
    belongs_to,
    from_csv,
    from_json,
    to_csv,
    to_json,
)
from dct_celery.core.plan.timings import Estimates, Sample
from tests.support.factories import group, make_manifest

Parse = Callable[[str], dict[str, Sample]]
Render = Callable[[dict[str, Sample]], str]

#: As test ids are: what the store keeps of bytes that are no UTF-8 included.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udcff\r\n\x0b\u2028\";,'"),
    min_size=1,
)
SECONDS = st.floats(min_value=0, max_value=timing_format.MAX_SECONDS)
AVERAGES = st.builds(Sample, SECONDS, st.integers(min_value=1, max_value=2**53))
HINTS = st.builds(Sample, SECONDS, st.just(1))
SAMPLES = st.dictionaries(
    NAMES.map("t:{}".format) | NAMES.map("c:{}".format), AVERAGES
) | st.dictionaries(NAMES.map("h:{}".format), HINTS)
FORMS = pytest.mark.parametrize(
    ("render", "parse"), [(to_json, from_json), (to_csv, from_csv)], ids=["json", "csv"]
)


@FORMS
@given(SAMPLES)
def test_what_is_written_comes_back_exactly(
    render: Render, parse: Parse, samples: dict[str, Sample]
) -> None:
    assert parse(render(samples)) == samples


@FORMS
def test_hints_at_what_was_measured_and_facts_about_order_are_not_written(
    render: Render, parse: Parse
) -> None:
    # Given
    measured = {"t:a.T.x": Sample(1.0, 3), "c:a.T": Sample(0.5, 3)}
    others = {"h:a.T.x": Sample(9.0, 1), "o:a.T": Sample(1.0, 1)}
    # When / Then
    assert parse(render(measured | others)) == measured


def test_the_json_form_has_a_line_for_each_name() -> None:
    # When
    text = to_json({"t:a.T.x": Sample(1.5, 3), "c:a.T": Sample(0.5, 2), "h:b.py": Sample(3.0, 1)})
    # Then
    assert text == (
        "{\n"
        '  "dct_timings": 1,\n'
        '  "timings": {\n'
        '    "a.T.x": {"duration": 1.5, "count": 3},\n'
        '    "b.py": {"duration": 3.0},\n'
        '    "setUpClass (a.T)": {"duration": 0.5, "count": 2}\n'
        "  }\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        # django-concurrent-test: of its runner, of its plugin for pytest
        ('{"shop.tests.T.test_a": 1.5}', {"shop.tests.T.test_a": 1.5}),
        (
            '{"tests/a.py::test": {"duration": 2, "status": "passed", "timestamp": 1.7e9}}',
            {"tests/a.py::test": 2.0},
        ),
        # pytest-split
        ('{\n    "a.py::T::test[x-1]": 0.25\n}', {"a.py::T::test[x-1]": 0.25}),
        # Knapsack
        ('{"tests/test_a.py": 12.5, "tests/test_b.py": 0}',
         {"tests/test_a.py": 12.5, "tests/test_b.py": 0.0}),
        ("{}", {}),
    ],
)  # fmt: skip
def test_what_other_tools_have_measured_is_read_as_hints(
    text: str, hints: dict[str, float]
) -> None:
    assert from_json(text) == {f"h:{name}": Sample(s, 1) for name, s in hints.items()}


@pytest.mark.parametrize(
    "text",
    [
        "test_id,duration_seconds\r\na.T.x,1.5\r\n",
        "test_id,duration_seconds\n\na.T.x,1.5\n\n",
        'duration_seconds,note,test_id\n1.5,"a ""b"", c","a.T.x"',
        "test_id,duration_seconds,count\na.T.x,1.5,\n",
    ],
)
def test_the_csv_of_django_concurrent_test_is_read_as_hints(text: str) -> None:
    assert from_csv(text) == {"h:a.T.x": Sample(1.5, 1)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not whole JSON"),
        ('{"dct_timings": 1, "timings": {"a": 1.0', "is not whole JSON"),
        ("[" * 100_000, "holds no timings"),
        ('[["a", 1.0]]', "holds no timings"),
        ("1", "holds no timings"),
        ('{"dct_timings": 2, "timings": {}}', "is of version 2, and this dct reads version 1;"),
        ('{"dct_timings": [1], "timings": {}}', "is of version [1], "),
        ('{"dct_timings": 1}', 'has no object "timings"'),
        ('{"a": -1}', "has no duration for 'a' but -1; give seconds from 0 to 10,000,000"),
        ('{"a": NaN}', "has no duration for 'a' but NaN"),
        ('{"a": Infinity}', "has no duration for 'a' but Infinity"),
        ('{"a": 1e999}', "has no duration for 'a' but Infinity"),
        ('{"a": 1e8}', "has no duration for 'a' but 100000000.0"),
        (f'{{"a": 1{"0" * 400}}}', "has no duration for 'a' but 1000"),
        (f'{{"a": 1{"0" * 9000}}}', "is not whole JSON"),
        ('{"a": true}', "has no duration for 'a' but true"),
        ('{"a": "1"}', "has no duration for 'a' but '1'"),
        ('{"a": {"seconds": 1}}', "has no duration for 'a' but null"),
        ('{"a": [1]}', "has no duration for 'a' but [1]"),
        ('{"a": {"duration": 1, "count": 0}}', "has no count for 'a' but 0"),
        ('{"a": {"duration": 1, "count": 1.5}}', "has no count for 'a' but 1.5"),
        ('{"a": {"duration": 1, "count": true}}', "has no count for 'a' but true"),
        ('{"": 1}', "has a duration without a name"),
        ('{"\\ud800": 1}', "which is no text"),
        ('{"\\u001b[2Ja\\n": -1}', "has no duration for '\\x1b[2Ja\\n' but -1"),
    ],
)
def test_json_that_holds_no_timings_is_one_line_that_names_what_and_a_fix(
    text: str, problem: str
) -> None:
    # When
    with pytest.raises(BadTimings) as refused:
        from_json(text)
    # Then
    line = str(refused.value)
    assert problem in line
    assert "; " in line, "there is a fix"
    assert line.isprintable()
    assert len(line) < 300


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no column test_id; its first line is to name the columns: test_id,duration_sec"),
        ("test_id;duration_seconds\na;1\n", "has no column test_id"),
        ("test_id,seconds\na,1\n", "has no column duration_seconds"),
        ("test_id,duration_seconds\na,1\nb,nan\n", "has no duration for 'b' (line 3) but NaN"),
        ("test_id,duration_seconds\na,-0.5\n", "has no duration for 'a' (line 2) but -0.5"),
        ("test_id,duration_seconds\na,fast\n", "has no duration for 'a' (line 2) but 'fast'"),
        ("test_id,duration_seconds\na\n", "has no duration for 'a' (line 2) but null"),
        ("test_id,duration_seconds,count\na,1,x\n", "has no count for 'a' (line 2) but 'x'"),
        ("test_id,duration_seconds\n,1\n", "has a duration without a name (line 2)"),
        (f"test_id,duration_seconds\n{'x' * 140_000},1\n", "is not CSV (field larger than"),
    ],
)
def test_csv_that_holds_no_timings_is_one_line_that_names_what_and_where(
    text: str, problem: str
) -> None:
    # When
    with pytest.raises(BadTimings) as refused:
        from_csv(text)
    # Then
    line = str(refused.value)
    assert problem in line
    assert "; " in line, "there is a fix"
    assert line.isprintable()


@given(st.text() | st.text('{}[]":,.1-9e\\utfna '))
def test_no_text_makes_reading_fail_otherwise(text: str) -> None:
    for parse in (from_json, from_csv):
        with contextlib.suppress(BadTimings):
            parse(text)


def test_more_names_than_any_suite_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr(timing_format, "MAX_NAMES", 2)
    text = json.dumps(dict.fromkeys("ab", 1))
    # When / Then
    assert len(from_json(text)) == 2
    with pytest.raises(BadTimings, match="has more than 2 names"):
        from_json(json.dumps(dict.fromkeys("abc", 1)))


@pytest.mark.parametrize(
    ("name", "label", "inside"),
    [
        ("shop.tests.T.test_a", "shop", True),
        ("shop.tests.T.test_a", "shop.tests.T.test_a", True),
        ("shop.tests.T.test_a", "shop.", True),
        ("shopping.tests.T.test_a", "shop", False),
        ("setUpClass (shop.tests.T)", "shop.tests", True),
        ("setUpClass (shop.tests.T)", "shop.tests.T", True),
        ("setUpClass (shop.tests.T)", "setUpClass", False),
        ("tests/test_a.py::T::test[x]", "tests", True),
        ("tests/test_a.py::T::test[x]", "tests/test_a.py", True),
        ("tests/test_a.py::T::test[x]", "tests/test_a.py::T::test", True),
        ("tests/test_a.py::T::test[x]", "tests/test", False),
        ("setUpClass (tests.test_a.T)", "tests/test_a.py", True),
        ("setUpClass (tests.test_a.T)", "tests/test_a.py::T", True),
    ],
)
def test_a_label_holds_what_is_inside_of_it(name: str, label: str, inside: bool) -> None:
    assert belongs_to(name, label) is inside


@FORMS
def test_a_first_run_with_imported_timings_is_planned_as_one_that_remembers(
    render: Render, parse: Parse
) -> None:
    # Given what runs remember of a suite with long and short classes
    manifest = make_manifest(*(group(f"a.T{number}", count=4) for number in range(30)))
    memory = {f"t:{entry.id}": Sample((entry.index * 7 % 11) ** 2 / 7, 5) for entry in manifest}
    memory |= {"c:a.T3": Sample(9.5, 5), "c:a.T20": Sample(0.1, 5)}

    def chunks(samples: dict[str, Sample]) -> list[object]:
        estimates = Estimates(samples, manifest.entries)
        planner = Planner(atoms(manifest, estimates))
        return list(iter(lambda: planner.next_chunk(3, frozenset()), None))

    # When it comes by a file into a store that knows nothing
    imported = parse(render(memory))
    # Then
    assert chunks(imported) == chunks(memory)
    assert chunks(imported) != chunks({})


def test_a_plan_with_hints_is_the_plan_with_measurements_of_the_same_seconds() -> None:
    # Given
    manifest = make_manifest(*(group(f"a.T{number}", count=2) for number in range(9)))
    memory = {f"t:{entry.id}": Sample(1.0 + entry.index, 1) for entry in manifest}
    # When
    hints = from_json(json.dumps({key[2:]: sample.seconds for key, sample in memory.items()}))
    # Then
    first, second = (
        atoms(manifest, Estimates(samples, manifest.entries)) for samples in (memory, hints)
    )
    assert first == second
