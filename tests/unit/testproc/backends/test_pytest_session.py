"""Claims about what is said of a session of pytest that does not come to its tests."""

from __future__ import annotations

import pytest

from dct_celery.testproc.backends.pytest.reports import stops, text_of
from dct_celery.testproc.backends.pytest.session import _explained
from dct_celery.wire.pytest_reports import SHOWN

HEADER = "===== test session starts =====\ncollected 0 items\n"


@pytest.mark.parametrize(
    ("printed", "line", "rest"),
    [
        (f"ERROR: not found: nonono\n\n{HEADER}", "not found: nonono", ""),
        (f"{HEADER}ERROR: not found: a\n(no match)\n\n", "not found: a", "(no match)"),
        ("ERROR: one\n\nERROR: two\n", "one", "ERROR: two"),
        (f"ERROR: set FOO\n{HEADER}", "set FOO", ""),
    ],
)
def test_a_usage_error_of_pytest_is_said_in_its_own_words(
    printed: str, line: str, rest: str
) -> None:
    # When
    fatal = _explained(4, printed)
    # Then
    assert (fatal.reason, fatal.message, fatal.detail) == ("labels", line, rest)


def test_what_the_parser_refuses_is_said_with_the_usage() -> None:
    # Given
    printed = "ERROR: usage: pytest [options]\npytest: error: unrecognized arguments: --foo\n"
    # When
    fatal = _explained(4, printed)
    # Then
    assert fatal.message.endswith("before it came to its tests: unrecognized arguments: --foo")
    assert fatal.detail == printed


def test_an_exception_of_a_plugin_is_said_in_its_last_line() -> None:
    # Given
    printed = "".join(f"INTERNALERROR> {line}\n" for line in ("Traceback", "  in", "KeyError: 1"))
    # When
    fatal = _explained(3, printed)
    # Then
    assert fatal.message.endswith("exit status 3 before it came to its tests: KeyError: 1")


class Session:
    """As pytest's, of which what is set cannot be unset."""

    def __init__(self, stop: bool | str = False) -> None:
        self._shouldfail: bool | str = False
        self._shouldstop = stop

    @property
    def shouldfail(self) -> bool | str:
        return self._shouldfail

    @property
    def shouldstop(self) -> bool | str:
        return self._shouldstop


def test_a_stop_of_the_session_is_left_to_the_dispatcher() -> None:
    # Given
    session = Session("enough")
    # When
    events = list(stops(session))
    # Then
    assert events == [("stop", {"fail": "", "stop": "enough"})]
    assert not session.shouldstop
    assert list(stops(session)) == []


@pytest.mark.parametrize(
    "longrepr",
    [
        "no such module",
        {SHOWN: "no such module"},
        {"reprtraceback": {"reprentries": [{"data": {"lines": ["no such module"]}}]}},
    ],
)
def test_the_text_of_a_failed_collector_is_what_it_shows(longrepr: object) -> None:
    assert text_of(longrepr) == "no such module"
