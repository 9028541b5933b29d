"""One test process from fork to exit: answers its slot's messages one after the other."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import tempfile
from typing import Self

from dct_celery.testproc.backends.base import Project
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation.leaks import LeakDetector
from dct_celery.testproc.isolation.output import OutputFile
from dct_celery.testproc.isolation.tree_watch import TreeWatch
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages

#: Bound at import, as tests patch it.
_makedirs = os.makedirs


class Session:
    """Serves one slot until that says goodbye or closes the channel."""

    def __init__(
        self,
        project: Project,
        channel: Channel,
        output: OutputFile,
        recorder: Recorder,
        temporary: str = "",
        shared: str = "",
    ) -> None:
        """`temporary`: folder for the tests' temporary files; created again before each chunk.

        `shared`: why the tree is shared with other slots, see `messages.Attached`.
        """
        self._project = project
        self._channel = channel
        self._output = output
        self._recorder = recorder
        self._temporary = temporary
        self._shared = shared

    @classmethod
    def open(cls, project: Project, order: messages.ForkOrder, root: str, shared: str = "") -> Self:
        """Opens the slot's FIFOs.

        Opening them in this order is the handshake that `worker.processes.test_process` expects.
        """
        watch = LeakDetector(TreeWatch(root) if shared else None)
        inbox = os.open(order.inbox, os.O_RDONLY)
        outbox = os.open(order.outbox, os.O_WRONLY)
        channel = Channel(raise_descriptor(inbox), raise_descriptor(outbox))
        output = OutputFile(order.log)
        # Drops the loader's choice of a temporary folder.
        tempfile.tempdir = None
        recorder = Recorder(channel, output, watch, root)
        return cls(project, channel, output, recorder, order.environment.get("TMPDIR", ""), shared)

    def serve(self) -> None:
        while True:
            message = self._channel.receive()
            if message is None or isinstance(message, messages.Goodbye):
                break
            self._channel.send(self._answer(message))
        self._end()

    def _answer(self, message: messages.Message) -> messages.Message:
        try:
            return self._obey(message)
        except (Exception, SystemExit) as error:  # Django's creation code calls sys.exit(2)
            return self._project.failure(message, error, self._output.take())

    def _obey(self, message: messages.Message) -> messages.Message:
        start = now()
        project = self._project
        match message:
            case messages.RunChunk():
                self._restore()
                self._recorder.start_chunk(message.chunk, message.artifacts, message.stops)
                return project.run(message.indices, self._recorder)
            case messages.Attach():
                project.attach(message)
                self._output.take()
                return messages.Attached(os.getpid(), now() - start, self._shared)
            case messages.Build():
                project.build(message)
                return messages.Built(now() - start, self._output.take())
            case messages.Check():
                project.check(message)
                return messages.Checked(now() - start)
            case messages.Flush():
                failed = project.flush(message)
                return messages.Flushed(now() - start, failed or "")
            case messages.Serialize():
                project.serialize(message)
                return messages.Serialized(now() - start)
            case messages.WriteSuite():
                with open(message.file, "w", encoding="ascii") as file:
                    json.dump(project.identities(), file)
                return messages.SuiteWritten(now() - start)
            case _:
                return messages.Fatal("internal", f"a test process cannot answer {message.kind}")

    def _restore(self) -> None:
        """Restores what the last chunk may have removed and this one needs."""
        self._output.restore()
        with contextlib.suppress(Exception):
            _makedirs(self._temporary, exist_ok=True)

    def _end(self) -> None:
        """Does what the sequential run does at its end, as far as that still has an effect."""
        with contextlib.suppress(Exception, SystemExit):
            self._project.close()
        with contextlib.suppress(Exception, SystemExit):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
