"""Claims about which words of the command line are meant for whom."""

from __future__ import annotations

import pytest

from dct_celery.pytest_plugin import OLDER, VALUES, WITHOUT_EFFECT, in_our_words
from dct_celery.pytest_plugin.session import own_words
from dct_celery.settings import OPTIONS


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["--dct", "-k", "x"], ("-k", "x")),
        (["--dct-local", "4", "tests"], ("tests",)),
        (["--dct-local=4", "tests"], ("tests",)),
        (["tests", "--dct-store", "redis://:secret@store/0"], ("tests",)),
        (["-p", "dct", "a::test[--dct]"], ("-p", "dct", "a::test[--dct]")),
        (["--dct-pool"], ()),
        (["--dct-worker-timeout", "9", "--dct-test-timeout=9", "x"], ("x",)),
        (["--dct-concurrent", "x"], ("x",)),
    ],
)
def test_what_is_meant_for_us_does_not_travel(given: list[str], left: tuple[str, ...]) -> None:
    assert own_words(given) == left


def test_each_option_is_a_setting() -> None:
    # Given
    options = {option.name: option for option in OPTIONS}
    # Then
    assert set(OLDER.values()) <= {"--dct-concurrent", WITHOUT_EFFECT, *VALUES}
    for flag, (name, _, _) in VALUES.items():
        assert flag == f"--dct-{name.replace('_', '-')}"
        assert name in options


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (["--concurrent", "x"], ["--dct-concurrent", "x"]),
        (["--workers", "4", "--concurrent"], ["--dct-local", "4", "--dct-concurrent"]),
        (["--concurrent", "--workers=4"], ["--dct-concurrent", "--dct-local=4"]),
        (["--concurrent", "--", "--workers"], ["--dct-concurrent", "--", "--workers"]),
        (
            ["--dct", "--import-timings", "a.json", "--export-timings-csv=a=b.csv"],
            ["--dct", "--dct-import-timings", "a.json", "--dct-export-timings-csv=a=b.csv"],
        ),
        (
            ["--test-timeout=5", "--timeout", "60", "--worker-timeout=60"],
            ["--dct-test-timeout=5", "--dct-timeout", "60", "--dct-worker-timeout=60"],
        ),
    ],
)
def test_the_older_spelling_is_translated(given: list[str], ours: list[str]) -> None:
    assert in_our_words(given, OLDER) == ours
