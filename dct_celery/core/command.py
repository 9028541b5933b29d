"""The project's own test command: how a user may write it, and what its script says.

A command is what stands behind `python`: ("manage.py", "test") or ("-m", "django", "test").
"""

from __future__ import annotations

import ast
import re
import shlex

Command = tuple[str, ...]
#: Of a project with a manage.py, and of one without.
MANAGE: Command = ("manage.py", "test")
DJANGO: Command = ("-m", "django", "test")
#: Of a project that runs its tests with pytest; and the program, which has another sys.path.
PYTEST: Command = ("-m", "pytest")
PYTEST_PROGRAM: Command = ("pytest",)
_PYTHON = re.compile(r"python[0-9.]*")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def parse(text: str) -> Command:
    """The command of a line such as "python manage.py test".

    Raises ValueError with what is wrong and the fix, to be put behind the name of the option.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be split into words: {error}") from None
    if words and _PYTHON.fullmatch(words[0]):
        del words[0]
    if not words:
        raise ValueError(f"{text!r} names no script; give one, such as 'python manage.py test'")
    first = words[0]
    if _PYTHON.fullmatch(first.rpartition("/")[2]):
        raise ValueError(f"{first} is an interpreter; name it with --python, and here its script")
    if first == "coverage":
        raise ValueError(
            "coverage cannot follow tests to the slots; name the command that it runs, without it,"
            " and give --coverage"
        )
    if re.match(r"\w+=", first):
        raise ValueError(
            f"{first.partition('=')[0]} is a variable; export it, and pass it on with --env"
        )
    if first == "-m":
        if len(words) < 2 or not _MODULE.fullmatch(words[1]):
            raise ValueError(f"{text!r} names no module; give one, such as 'python -m django test'")
    elif first.startswith("-"):
        raise ValueError(
            f"Python's option {first} cannot be passed on; set the variable that stands for it,"
            " such as PYTHONWARNINGS"
        )
    # A manage.py, or Django itself, only prints its help without a subcommand.
    alone = first.rpartition("/")[2] == MANAGE[0] if len(words) == 1 else words == [*DJANGO[:-1]]
    return (*words, "test") if alone else tuple(words)


def default_settings(source: bytes) -> str | None:
    """The module that a script sets as default for DJANGO_SETTINGS_MODULE; None if it sets none.

    The script is read and never run.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        values = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
        if (
            len(values) == 2
            and values[0] == "DJANGO_SETTINGS_MODULE"
            and isinstance(values[1], str)
        ):
            return values[1]
    return None
