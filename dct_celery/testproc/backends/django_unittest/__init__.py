"""Django projects, run as `manage.py test` runs them: unittest under the project's own runner."""

from __future__ import annotations

from dct_celery.testproc.backends.base import Backend, Project
from dct_celery.testproc.backends.django_unittest.project import load_project
from dct_celery.wire import messages


class DjangoBackend:
    """Takes the words of `manage.py test`; the first one may be --settings=MODULE."""

    def load(self, order: messages.Load) -> Project:
        return load_project(order)


BACKEND: Backend = DjangoBackend()
