"""Claims about `core.command`: what a user may write as the project's test command."""

from __future__ import annotations

import pytest

from dct_celery.core.command import default_settings, parse

MANAGE = b'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("python manage.py test", ("manage.py", "test")),
        ("manage.py test", ("manage.py", "test")),
        ("python3.12 bin/site --env ci test", ("bin/site", "--env", "ci", "test")),
        ("python -m django test", ("-m", "django", "test")),
        ("-m shop.cli test", ("-m", "shop.cli", "test")),
        ("python 'my project/manage.py' test", ("my project/manage.py", "test")),
        ("python runtests.py", ("runtests.py",)),
    ],
)
def test_a_command_is_what_stands_behind_python(line: str, command: tuple[str, ...]) -> None:
    assert parse(line) == command


@pytest.mark.parametrize("line", ["manage.py", "python manage.py", "./manage.py", "src/manage.py"])
def test_a_manage_py_alone_means_its_test_command(line: str) -> None:
    assert parse(line) == (line.removeprefix("python "), "test")
    assert parse("python -m django") == ("-m", "django", "test")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("python", "'python' names no script; give one, such as 'python manage.py test'"),
        (" ", "' ' names no script"),
        ("python 'manage.py", "cannot be split into words: No closing quotation"),
        (".venv/bin/python manage.py", ".venv/bin/python is an interpreter; name it with --python"),
        ("coverage run manage.py test", "coverage cannot follow tests to the slots"),
        ("CI=1 python manage.py test", "CI is a variable; export it, and pass it on with --env"),
        ("python -m", "names no module"),
        ("python -m 1x", "names no module"),
        ("python -W error manage.py", "Python's option -W cannot be passed on; .*PYTHONWARNINGS"),
    ],
)
def test_what_is_no_command_is_named_with_the_fix(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(line)


def test_a_manage_py_is_read_and_never_run() -> None:
    assert default_settings(b"raise SystemExit\n" + MANAGE) == "shop.settings"


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"def broken(:",
        b"\0",
        b'os.environ.setdefault("OTHER", "x")',
        b'f("DJANGO_SETTINGS_MODULE", name)',
    ],
)
def test_a_manage_py_that_says_nothing_says_none(source: bytes) -> None:
    assert default_settings(source) is None
