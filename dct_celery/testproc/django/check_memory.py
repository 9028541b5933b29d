"""What the system checks leave in the memory of the process that runs them.

The process of a sequential run does so before its first test; here they run once for a worker, in a
process of their own, beside the tests. What lasts is what they import: the URLconf, the handlers of
errors, the template engines and their libraries. Code in there that depends on settings is to see
those of the project, not what the first test that happens to need a URL overrides.
"""

from __future__ import annotations

import contextlib
from typing import Any


def as_after_checks(runner: Any) -> None:
    """To be called when the databases are there. Nothing is reported: what fails here fails in the
    checks themselves.
    """
    from django.core import checks
    from django.test.runner import DiscoverRunner

    if type(runner).run_checks is not DiscoverRunner.run_checks:
        return  # it may leave them out
    for tag in (checks.Tags.templates, checks.Tags.urls):
        with contextlib.suppress(Exception, SystemExit):
            checks.run_checks(tags=[tag])
