"""Entry point of the user's process: a collect process, a loader, or a test process of a loader
that cannot fork.

Started by the worker (or by the dispatcher, to collect) as `python -c BOOT INBOX OUTBOX`; the two
descriptors are the channel. One Load message says what to do.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from dct_celery.core.backends import BUILT_IN
from dct_celery.core.model import manifest_digest
from dct_celery.errors import CollectionError, ProtocolError
from dct_celery.security import guards

# The session is imported early for what it binds: settings and test modules may patch the standard
# library.
from dct_celery.testproc import coverage, process_start
from dct_celery.testproc.backends.base import LoadFailed, Project, failing_as, find
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.django import environment
from dct_celery.testproc.django.variables import VARIABLES
from dct_celery.testproc.isolation import private_tree, threads
from dct_celery.testproc.isolation.frozen import FROZEN_HEAP
from dct_celery.testproc.isolation.lifetime import die_with_parent, dump_stacks_to_output
from dct_celery.testproc.isolation.threads import STARTS
from dct_celery.testproc.loader import ForkingLoader, enter_slot, read_order, with_tree
from dct_celery.testproc.session import Session, end_process
from dct_celery.testproc.set_order import SET_ORDER
from dct_celery.testproc.spawner import SpawningLoader
from dct_celery.wire import messages

T = TypeVar("T")
#: Entries per message; bounds the size of a frame.
_BATCH = 2000
_OTHER_SUITE = (
    "the project has threads, so each test process imports it by itself, and this one has found"
    " another suite than the worker's first import; does an import fail the second time (a port in"
    " use, say), or do test ids differ from import to import?"
)


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
    if load is None:
        return False
    if load.fork_order:
        channel.close()
        serve_slot(load)
    else:
        serve(load, channel)
    return True


def serve(load: messages.Load, channel: Channel) -> None:
    """Loads the project; then sends its manifest, or starts test processes until the end."""
    start = now()
    if not load.collect_only:
        FROZEN_HEAP.watch()

    def serve_project(project: Project, loaded: messages.Loaded) -> None:
        if load.collect_only:
            channel.send(loaded)
            _send_entries(project, channel)
            # It only ends now. pytest collects garbage five times then, while others want the CPU.
            gc.freeze()
            project.close()
            return
        own = replace(load, digest=loaded.digest)
        if loaded.threads:
            process_start.replace_loader(own, channel, loaded)
        loader = ForkingLoader(project, channel, own)
        channel.send(loaded)  # the FIFO is open: fork orders may come from now on
        loader.serve()

    def refuse(fatal: messages.Fatal) -> None:
        channel.send(replace(fatal, unset=VARIABLES.unset()))

    _load(load, lambda project: _describe(project, load, start), serve_project, refuse)


def serve_slot(load: messages.Load) -> None:
    """Loads the project for one slot alone, which the worker's loader could not fork for."""
    order = read_order(load.fork_order)
    if order.layer:
        order = with_tree(order, private_tree.why_not(load.root, order.layer))
    enter_slot(order, load.fork_order, os.getppid(), load.root)
    session = Session.open(order, load.root)

    def serve_project(project: Project, digest: str) -> None:
        if digest == load.digest:
            session.serve(project)
        else:
            session.refuse(messages.Fatal("collection", _OTHER_SUITE))

    def digest_of(project: Project) -> str:
        return manifest_digest(project.identities())

    _load(load, digest_of, serve_project, session.refuse)
    end_process()
    os._exit(0)  # threads may still run


def resume(inbox: int, outbox: int, state: int) -> None:
    """Goes on in place of a loader that has replaced itself: see `process_start`."""
    die_with_parent()
    dump_stacks_to_output()
    channel = Channel(raise_descriptor(inbox), raise_descriptor(outbox))
    load, first = process_start.read_state(state)
    assert isinstance(load, messages.Load)
    loader = SpawningLoader(channel, load)
    channel.send(first)
    loader.serve()


def _load(
    load: messages.Load,
    describe: Callable[[Project], T],
    serve: Callable[[Project, T], None],
    refuse: Callable[[messages.Fatal], None],
) -> None:
    """Loads the project and calls `serve` with it and its description, or else `refuse`."""
    if not load.collect_only:
        messages.prepare()
    served: list[Project] = []

    def serve_project(project: Project) -> None:
        served.append(project)
        _stop_watching()
        try:
            with failing_as("collection"):
                project.disconnect()  # the threads of pools end, too
                description = describe(project)
        except LoadFailed as failed:
            refuse(failed.fatal)  # and not raised: this runs on the stack of the project's command
        else:
            serve(project, description)

    try:
        with failing_as("collection"):
            # Our own backend is imported before the project's folders are on sys.path, where a file
            # may have the name of a standard module; a backend from elsewhere may be in just those
            # folders.
            backend = find(load.backend) if load.backend in BUILT_IN else None
            _enter(load)
            if load.coverage:
                with failing_as("coverage"):
                    coverage.start(load)
            (backend or find(load.backend)).load(load, serve_project)
            if not served:
                raise CollectionError(f"the backend {load.backend} has loaded no project")
    except LoadFailed as failed:
        _stop_watching()
        refuse(failed.fatal)


def _enter(load: messages.Load) -> None:
    """Sets working directory and sys.path as Python does when it starts the project's command."""
    os.chdir(os.path.join(load.root, load.directory))
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    # Installed in place, the project is on sys.path already, but behind the packages that were
    # installed before it: as at Python's own start, that does not count.
    others = [entry for entry in sys.path if entry not in load.sys_path[1:]]
    sys.path[:] = [*load.sys_path, *others]
    VARIABLES.start()
    STARTS.watch(load.root)
    SET_ORDER.start()


def _stop_watching() -> None:
    """From here on nothing is left of what looked on while the project was loaded."""
    VARIABLES.stop()
    STARTS.stop()
    SET_ORDER.stop()


def _describe(project: Project, load: messages.Load, start: float) -> messages.Loaded:
    if load.coverage and coverage.measured_by_others():
        raise CollectionError(
            "the project's own command measures coverage, too, and only one can: leave out"
            " --coverage, or let the command measure nothing"
        )
    living = threads.settle()
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
        facts={"python": sys.version.split()[0], **said.facts, **guards.variables(os.environ)},
        rerun=said.rerun,
        receivers=said.receivers,
        unimported=said.unimported,
        threads=living,
        variables=VARIABLES.written(),
        session=said.session,
        maxfail=said.maxfail,
        lasting=said.lasting,
        measured=load.coverage or said.measured,
        artifact_paths=said.artifact_paths,
        timings_file=said.timings_file,
    )


def _send_entries(project: Project, channel: Channel) -> None:
    entries = iter(project.entries())
    while batch := tuple(itertools.islice(entries, _BATCH)):
        channel.send(messages.Entries(batch, last=False))
    channel.send(messages.Entries((), last=True))


def run(argv: list[str]) -> None:
    """`main` for the command line of BOOT; exits without running user code a second time."""
    if len(argv) == 3:
        resume(*map(int, argv))
        os._exit(0)
    imported = main(int(argv[0]), int(argv[1]))
    sys.stdout.flush()
    sys.exit(0) if imported else os._exit(0)
