"""One test process from fork to exit: answers its slot's messages one after the other."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import tempfile
import traceback
from typing import Any

from dct_celery.testproc import databases, doors, quickflush, sharedmemory
from dct_celery.testproc.backends.django_unittest.chunk import run_chunk
from dct_celery.testproc.backends.django_unittest.project import Project
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.leaks import Watch
from dct_celery.testproc.output import OutputFile
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages

#: Bound now, as tests patch it.
_makedirs = os.makedirs


class Session:
    """Serves one slot over its FIFOs. Opening them in this order is the handshake that `worker.testprocess` expects."""

    def __init__(self, project: Project, order: messages.ForkOrder) -> None:
        self._project = project
        watch = Watch()
        inbox = os.open(order.inbox, os.O_RDONLY)
        outbox = os.open(order.outbox, os.O_WRONLY)
        self._channel = Channel(raise_descriptor(inbox), raise_descriptor(outbox))
        self._output = OutputFile(order.log)
        self._recorder = Recorder(self._channel, self._output, watch, project.root)
        self._old_config: Any = None
        self._temporary = order.environment.get("TMPDIR", "")
        # The loader's choice of a temporary folder is not ours.
        tempfile.tempdir = None

    def serve(self) -> None:
        while True:
            message = self._channel.receive()
            if message is None or isinstance(message, messages.Goodbye):
                break
            self._answer(message)
        self._end()

    def _answer(self, message: messages.Message) -> None:
        start = now()
        try:
            if isinstance(message, messages.RunChunk):
                self._restore()
                self._recorder.start_chunk(message.chunk)
                self._channel.send(run_chunk(self._project, message.indices, self._recorder))
            elif isinstance(message, messages.Attach):
                sharedmemory.install()
                self._old_config = databases.attach(self._project, message.databases, message.serialized, message.servers)
                quickflush.install()
                databases.flush(message.flush)
                self._output.take()
                self._channel.send(messages.Attached(os.getpid(), now() - start))
            elif isinstance(message, messages.Build):
                databases.build(self._project, message.databases, message.limits, message.servers)
                self._channel.send(messages.Built(now() - start, self._output.take()))
            elif isinstance(message, messages.Check):
                databases.check(self._project, message.databases, message.servers)
                self._channel.send(messages.Checked(now() - start))
            elif isinstance(message, messages.Flush):
                databases.flush_template(self._project, message.databases, message.aliases, message.servers)
                self._channel.send(messages.Flushed(now() - start))
            elif isinstance(message, messages.Serialize):
                databases.serialize(self._project, message.databases, message.files, message.servers)
                self._channel.send(messages.Serialized(now() - start))
            else:
                self._channel.send(messages.Fatal("internal", f"a test process cannot answer {message.kind}"))
        except (Exception, SystemExit) as error:  # Django's creation code calls sys.exit(2)
            self._channel.send(_fatal(message, error, self._output.take()))

    def _restore(self) -> None:
        """What the last chunk may have taken away and this one needs."""
        self._output.restore()
        with contextlib.suppress(Exception):
            _makedirs(self._temporary, exist_ok=True)

    def _end(self) -> None:
        """What the end of a sequential run does, as far as it can still matter to anybody."""
        with contextlib.suppress(Exception, SystemExit):
            if self._old_config is not None:
                self._project.runner.teardown_databases(self._old_config)
            self._project.runner.teardown_test_environment()
        with contextlib.suppress(Exception, SystemExit):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _fatal(message: messages.Message, error: BaseException, output: str) -> messages.Fatal:
    """What went wrong with an order, with what Django printed of it: creation code prints its reason before it exits."""
    from django.core.management.base import SystemCheckError
    from django.db import InterfaceError, OperationalError

    if isinstance(error, SystemCheckError):
        return messages.Fatal("checks", "SystemCheckError: the system check failed", str(error))
    if isinstance(error, doors.WrongDatabase):
        return messages.Fatal("elsewhere", str(error), output.strip())
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    if isinstance(error, SystemExit):
        first = output.strip().splitlines()[-1] if output.strip() else "the database creation code exited"
    trace = io.StringIO()
    traceback.print_exception(error, file=trace)
    reason = {"Build": "template", "Check": "checks", "RunChunk": "internal"}.get(message.kind, "database")
    if reason == "checks" and isinstance(error, (OperationalError, InterfaceError)):
        reason = "database"  # checks touch it, but they are not what failed
    return messages.Fatal(reason, f"{type(error).__name__}: {first}", f"{output}\n{trace.getvalue()}".strip())
