"""Claims about `testproc.failures`: any exception becomes text, however it behaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from dct_celery.core.model import Failure
from dct_celery.testproc.failures import MAX_TEXT, cut, describe, failure_of, first_line, type_name

HERE = str(Path(__file__).parent)


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


class Nameless(type):
    def __getattribute__(cls, name: str) -> object:
        if name == "__qualname__":
            raise RuntimeError(name)
        return type.__getattribute__(cls, name)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_failure_names_what_it_is_and_where_below_the_root() -> None:
    # When
    failure = failure_of(raised(ValueError("  no\nmore")), HERE + "/", kind="failure")
    # Then
    assert (failure.kind, failure.type, failure.message) == ("failure", "ValueError", "no")
    assert failure.file == "test_failures.py"
    assert failure.line is not None
    assert 'File "test_failures.py"' in failure.text


def test_an_exception_that_cannot_be_printed_is_described_as_such() -> None:
    # When
    failure = failure_of(raised(Mute()), HERE + "/")
    # Then
    assert failure.type.endswith(".Mute")
    assert failure.message == "<str() of the exception failed: SystemExit>"
    assert failure.text


def test_frames_of_the_framework_are_no_place_of_a_failure() -> None:
    # Given a helper of a framework that raises
    framework: dict[str, object] = {"__unittest": True}
    exec("def assert_it():\n    raise AssertionError('no')", framework)
    # When
    with pytest.raises(AssertionError) as caught:
        framework["assert_it"]()  # type: ignore[operator]
    # Then
    assert failure_of(caught.value, HERE + "/").file == "test_failures.py"


def test_what_has_no_exception_still_is_a_failure() -> None:
    assert describe(None, None, "text", "/src/") == Failure("error", "Error", "", "text")


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (None, "Error"),
        (OSError, "OSError"),
        (Nameless("Odd", (), {}), "Error"),
        (Failure, "dct_celery.core.model.Failure"),
    ],
)
def test_a_type_has_a_name_whatever_its_class_says(cls: type | None, name: str) -> None:
    assert type_name(cls) == name


@pytest.mark.parametrize(
    ("error", "line"), [(None, ""), (ValueError(), ""), (ValueError("\n a\nb"), "a")]
)
def test_the_first_line_is_the_first_that_is_not_blank(error: Exception | None, line: str) -> None:
    assert first_line(error) == line


def test_a_long_text_loses_its_middle_and_says_how_much() -> None:
    # When
    text = cut("a" * MAX_TEXT + "b" * 10)
    # Then
    assert text.startswith("a" * (MAX_TEXT // 2))
    assert text.endswith("b" * 10)
    assert len(text) < MAX_TEXT + 50
    assert "[… 10 characters cut …]" in text
    assert cut("short") == "short"


def test_a_line_that_only_announces_goes_on_with_the_cause() -> None:
    # Given
    announced = ValueError("It couldn't be flushed. Possible reasons:\n * many")
    announced.__cause__ = OSError("locked\nDETAIL: more")
    # Then
    assert first_line(announced) == "It couldn't be flushed. Possible reasons: locked"
    announced.__cause__ = Mute()
    assert first_line(announced).endswith("reasons: <str() of the exception failed: SystemExit>")
    announced.__cause__ = None
    assert first_line(announced) == "It couldn't be flushed. Possible reasons:"


def test_a_whole_line_stays_alone() -> None:
    # Given
    told = ValueError("no")
    told.__cause__ = KeyError("other")
    # Then
    assert first_line(told) == "no"
