"""Entry point of the user's process: a collect process or a loader, and the loader's forks.

Started by the worker (or by the dispatcher, to collect) as `python -c BOOT INBOX OUTBOX`; the two
descriptors are the channel. One Load message says what to do.
"""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import replace

from dct_celery.core.backends import BUILT_IN
from dct_celery.core.model import manifest_digest
from dct_celery.errors import CollectionError, ProtocolError
from dct_celery.security import guards

# The session is imported early for what it binds: settings and test modules may patch the standard
# library.
from dct_celery.testproc.backends.base import LoadFailed, Project, failing_as, find
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.django import environment
from dct_celery.testproc.django.variables import VARIABLES
from dct_celery.testproc.isolation.lifetime import die_with_parent, dump_stacks_to_output
from dct_celery.testproc.loader import Loader
from dct_celery.wire import messages

#: Entries per message; bounds the size of a frame.
_BATCH = 2000


def main(inbox: int, outbox: int) -> bool:
    """Serves one Load; returns when the worker closes the channel.

    False if nothing of the project was imported.
    """
    die_with_parent()
    dump_stacks_to_output()
    channel = Channel(raise_descriptor(inbox), raise_descriptor(outbox))
    try:
        load = channel.expect(messages.Load)
    except ProtocolError as error:
        channel.send(messages.Fatal("internal", str(error)))
        return False
    if load is not None:
        serve(load, channel)
    return load is not None


def serve(load: messages.Load, channel: Channel) -> None:
    """Loads the project; then sends its manifest, or forks test processes until the end."""
    start = now()
    if not load.collect_only:
        messages.prepare()
    served: list[Project] = []

    def serve_project(project: Project) -> None:
        served.append(project)
        try:
            with failing_as("collection"):
                loaded = _describe(project, load, start)
        except LoadFailed as failed:
            # Not raised: this runs on the stack of the project's command.
            channel.send(failed.fatal)
            return
        _serve(project, loaded, load, channel)

    try:
        with failing_as("collection"):
            # Our own backend is imported before the project's folders are on sys.path, where a file
            # may have the name of a standard module; a backend from elsewhere may be in just those
            # folders.
            backend = find(load.backend) if load.backend in BUILT_IN else None
            _enter(load)
            (backend or find(load.backend)).load(load, serve_project)
            if not served:
                raise CollectionError(f"the backend {load.backend} has loaded no project")
    except LoadFailed as failed:
        VARIABLES.stop()
        channel.send(replace(failed.fatal, unset=VARIABLES.unset()))


def _serve(
    project: Project, loaded: messages.Loaded, load: messages.Load, channel: Channel
) -> None:
    if load.collect_only:
        channel.send(loaded)
        _send_entries(project, channel)
        project.close()
    else:
        loader = Loader(project, channel, load)
        channel.send(loaded)  # the FIFO is open: fork orders may come from now on
        loader.serve()


def _enter(load: messages.Load) -> None:
    """Sets working directory and sys.path as Python does when it starts the project's command."""
    os.chdir(os.path.join(load.root, load.directory))
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    sys.path[:0] = [entry for entry in load.sys_path if entry not in sys.path]
    VARIABLES.start()


def _describe(project: Project, load: messages.Load, start: float) -> messages.Loaded:
    VARIABLES.stop()
    packages = environment.describe()
    used = environment.used(load.root, load.directory)
    said = project.describe(packages)
    places = {
        str(row.get(part) or "")
        for row in (*said.databases, *said.configured)
        for part in ("host", "port", "user", "password", "name")
    }
    read = VARIABLES.facts(load.environment_key, load.root, places)
    identities = project.identities()
    variables = {
        name: os.environ[name] for name in guards.ENVIRONMENT_VARIABLES if name in os.environ
    }
    return messages.Loaded(
        count=len(identities),
        digest=manifest_digest(identities),
        seconds=now() - start,
        environment={**packages, **used, **read, **said.environment},
        databases=said.databases,
        not_honoured=said.not_honoured,
        redis_in_use=said.redis_in_use,
        schema=said.schema,
        flushes=said.flushes,
        configured=said.configured,
        facts={"python": sys.version.split()[0], **said.facts, **variables},
        rerun=said.rerun,
        receivers=said.receivers,
        variables=VARIABLES.written(),
    )


def _send_entries(project: Project, channel: Channel) -> None:
    entries = iter(project.entries())
    while batch := tuple(itertools.islice(entries, _BATCH)):
        channel.send(messages.Entries(batch, last=False))
    channel.send(messages.Entries((), last=True))


def run(argv: list[str]) -> None:
    """`main` for the command line of BOOT; exits without running user code a second time."""
    imported = main(int(argv[0]), int(argv[1]))
    sys.stdout.flush()
    sys.exit(0) if imported else os._exit(0)
