"""Claims about what a worker says of its machine."""

from __future__ import annotations

import platform

from dct_celery.settings import Settings
from dct_celery.worker.host.machine_facts import about


def test_versions_are_reported_without_loading_the_project() -> None:
    facts = about(Settings())
    assert facts["python"] == platform.python_version()
    assert facts["django"][:1].isdecimal()
    assert int(facts["open_files"]) != 0


def test_of_a_project_with_an_interpreter_of_its_own_no_django_is_reported() -> None:
    facts = about(Settings(python="/venv/bin/python"))
    assert (facts["interpreter"], "django" in facts) == ("/venv/bin/python", False)
