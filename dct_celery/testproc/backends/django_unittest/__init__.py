"""Django projects, run as `manage.py test` runs them: unittest under the project's own runner.

`project` loads settings, runner and suite as the test command does; `manifest` describes each test
(phase, locks, what must stay together), `surroundings` the rest. `chunk` runs the tests of a chunk
as one suite, and `result` turns what the project's own result class says into records. Databases
are attached by `testproc.django`. A class is never split and no test runs twice in one process.
"""

from __future__ import annotations

from dct_celery.testproc.backends.base import Backend, Project
from dct_celery.testproc.backends.django_unittest.project import load_project
from dct_celery.wire import messages


class DjangoBackend:
    """The backend `django`.

    It takes the arguments of `manage.py test`; the first one may be --settings=MODULE.
    """

    def load(self, order: messages.Load) -> Project:
        return load_project(order)


BACKEND: Backend = DjangoBackend()
