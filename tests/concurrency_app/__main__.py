"""Runs cases.py on the database of the variable, as `manage.py test` would."""

from __future__ import annotations

import sys

from tests.concurrency_app import environment

if __name__ == "__main__":
    environment.configure(environment.inherited())
    from django.test.runner import DiscoverRunner

    runner = DiscoverRunner(
        verbosity=2, test_name_patterns=[f"*{word}*" for word in sys.argv[1:]] or None
    )
    sys.exit(bool(runner.run_tests(["tests.concurrency_app.cases"])))
