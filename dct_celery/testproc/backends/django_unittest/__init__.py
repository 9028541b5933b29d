"""Django projects, run as `manage.py test` runs them: unittest under the project's own runner.

`command` executes the project's own command as far as to its suite, and `project` holds what that
has loaded. `manifest` describes each test (phase, locks, what must stay together). `chunk` runs the
tests of a chunk as one suite, and `result` turns what the project's own result class says into
records. Databases are attached, and the rest of the project is described, by `testproc.django`. A
class is never split and no test runs twice in one process.
"""

from __future__ import annotations

import os

from dct_celery.testproc.backends.base import Backend, Serve
from dct_celery.testproc.backends.django_unittest import command
from dct_celery.testproc.backends.django_unittest.project import DjangoProject
from dct_celery.testproc.django.surroundings import rerun_command
from dct_celery.wire import messages


class DjangoBackend:
    """The backend `django`; its command is `manage.py test`, or what the project has for it."""

    def load(self, order: messages.Load, serve: Serve) -> None:
        rerun = rerun_command(order.command, os.environ.get("DJANGO_SETTINGS_MODULE"))
        command.run(
            order.command,
            order.arguments,
            lambda runner, suite: serve(DjangoProject(runner, suite, order, rerun)),
        )


BACKEND: Backend = DjangoBackend()
