"""Entry of the user's process: a collect process or a loader, and the forks of the loader.

Started by the worker (or by the dispatcher, to collect) as `python -c BOOT INBOX OUTBOX`; the two descriptors are the
channel. One Load message says what to do.
"""

from __future__ import annotations

import itertools
import os
import sys

from dct_celery.errors import ProtocolError
from dct_celery.security import guards

# The session is imported here for what it binds: settings and test modules may patch the standard library.
from dct_celery.testproc import environment, session  # noqa: F401
from dct_celery.testproc.backends.django_unittest import manifest
from dct_celery.testproc.backends.django_unittest.project import LoadFailed, Project, load_project, prepare_process
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.lifetime import die_with_parent, dump_stacks_to_output
from dct_celery.testproc.loader import Loader
from dct_celery.wire import messages

#: Entries per message, so that no frame grows with the suite.
_BATCH = 2000


def main(inbox: int, outbox: int) -> None:
    """Serves one Load; returns when the worker closes the channel."""
    die_with_parent()
    dump_stacks_to_output()
    channel = Channel(raise_descriptor(inbox), raise_descriptor(outbox))
    try:
        load = channel.expect(messages.Load)
    except ProtocolError as error:
        channel.send(messages.Fatal("internal", str(error)))
        return
    if load is not None:
        _serve(load, channel)


def _serve(load: messages.Load, channel: Channel) -> None:
    start = now()
    try:
        prepare_process(load)
        project = load_project(load)
        loaded = _describe(project, load, start)
    except LoadFailed as failed:
        channel.send(failed.fatal)
        return
    if load.collect_only:
        channel.send(loaded)
        _send_entries(project, load, channel)
        project.runner.teardown_test_environment()
    else:
        loader = Loader(project, channel, load.fork_fifo)
        channel.send(loaded)  # after the FIFO is open: from now on there may be fork orders
        loader.serve()


def _describe(project: Project, load: messages.Load, start: float) -> messages.Loaded:
    import django

    from dct_celery.testproc import databases, schema

    try:
        described, configured = databases.describe(project), databases.configured(project)
    except Exception as error:
        raise LoadFailed(messages.Fatal("settings", f"{type(error).__name__}: {error}")) from error
    facts = environment.describe(load.root)
    return messages.Loaded(
        count=len(project.tests),
        digest=manifest.digest(project.tests),
        seconds=now() - start,
        environment=facts,
        databases=described,
        not_honoured=project.not_honoured(),
        redis_in_use=environment.redis_in_use(),
        schema="" if load.collect_only else schema.fingerprint(project, facts, _below(load)),
        flushes=_flushes(project),
        configured=configured,
        facts={
            "django": django.get_version(),
            "python": sys.version.split()[0],
            "debug": str(_configured_debug()).lower(),
            "settings": os.environ.get("DJANGO_SETTINGS_MODULE", ""),
            **{name: os.environ[name] for name in guards.ENVIRONMENT_VARIABLES if name in os.environ},
        },
    )


def _flushes(project: Project) -> list[str]:
    """Aliases that some test of the selection flushes."""
    flushing = filter(manifest._flushes, project.tests)
    return sorted({alias for test in flushing for alias in manifest._databases(test)})


def _below(load: messages.Load) -> list[str]:
    """The globs of `template_depends`, from the folder of the project to the root of the tree."""
    return [os.path.join(load.directory, glob) for glob in load.template_depends]


def _configured_debug() -> bool:
    """The project's own DEBUG: the test environment has put its own over it and keeps the old value for its tear-down."""
    from django.conf import settings
    from django.test import utils

    saved = getattr(utils._TestState, "saved_data", None)
    return bool(getattr(saved, "debug", settings.DEBUG))


def _send_entries(project: Project, load: messages.Load, channel: Channel) -> None:
    entries = manifest.entries(project.tests, load.root)
    while batch := tuple(itertools.islice(entries, _BATCH)):
        channel.send(messages.Entries(batch, last=False))
    channel.send(messages.Entries((), last=True))


def run(argv: list[str]) -> None:
    """`main` for the command line of BOOT; never lets the interpreter's own exit run user code twice."""
    main(int(argv[0]), int(argv[1]))
    sys.stdout.flush()
    os._exit(0) if "django" not in sys.modules else sys.exit(0)
