"""pytest, with the plugins of the project: its session is collected once and then forked.

`session` is the plugin that goes with the project's own through collection and takes the place of
the run loop; `project` holds the collected session. `manifest` describes each test, `chunk` runs
tests by index, `reports` gathers what pytest says of them, `workeroutput` what plugins have to say.
`databases` attaches those of pytest-django, `plugins` shows to others one of xdist's workers,
`process` makes a fork the process that its slot is to have. The arguments are those of `pytest`,
behind the input of the dispatcher (`wire.pytest_reports.Input`).
"""

from __future__ import annotations

from dct_celery.errors import CollectionError
from dct_celery.testproc.backends.base import Backend, LoadFailed, Serve, failing_as
from dct_celery.wire import messages, pytest_reports


class PytestBackend:
    """The backend `pytest`; its command is `python -m pytest`."""

    def load(self, order: messages.Load, serve: Serve) -> None:
        try:
            import pytest
        except ImportError as error:
            line = f"pytest is not installed in the project's environment ({error}); install it"
            raise LoadFailed(messages.Fatal("backend", line)) from error
        from dct_celery.testproc.backends.pytest import session

        given, words = pytest_reports.split_arguments(order.arguments)
        if tuple(map(int, pytest.__version__.split(".")[:1])) < (8,):
            line = f"pytest {pytest.__version__} is too old; install pytest 8 or later"
            raise LoadFailed(messages.Fatal("backend", line))
        with failing_as("collection"):
            if given is None:
                raise CollectionError("the order has no input of the dispatcher")
            session.run(order, given, words, serve)


BACKEND: Backend = PytestBackend()
