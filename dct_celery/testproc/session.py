"""One test process from fork to exit: answers its slot's messages one after the other."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import tempfile
from dataclasses import replace
from typing import Self

from dct_celery.testproc import coverage
from dct_celery.testproc.backends.base import Project
from dct_celery.testproc.channel import Channel, raise_descriptor
from dct_celery.testproc.clock import now
from dct_celery.testproc.isolation.leaks import LeakDetector
from dct_celery.testproc.isolation.output import OutputFile
from dct_celery.testproc.isolation.tree_watch import TreeWatch
from dct_celery.testproc.kept_files import KeptFiles
from dct_celery.testproc.meter import Meter
from dct_celery.testproc.recorder import Recorder
from dct_celery.wire import messages

#: Bound at import, as tests patch it.
_makedirs = os.makedirs


class Session:
    """Serves one slot until that says goodbye or closes the channel."""

    def __init__(
        self,
        channel: Channel,
        output: OutputFile,
        recorder: Recorder,
        temporary: str = "",
        shared: str = "",
        coverage_file: str = "",
        kept_files: KeptFiles | None = None,
    ) -> None:
        """`temporary`: folder for the tests' temporary files; created again before each chunk.

        `shared`: why the tree is shared with other slots, see `messages.Attached`.
        `coverage_file`: see `messages.ForkOrder`.
        """
        self._channel = channel
        self._output = output
        self._recorder = recorder
        self._temporary = temporary
        self._shared = shared
        self._coverage_file = coverage_file
        self._kept_files = kept_files

    @classmethod
    def open(cls, order: messages.ForkOrder, root: str) -> Self:
        """Opens the slot's FIFOs.

        Opening them in this order is the handshake that `worker.processes.test_process` expects.
        """
        if measurement := coverage.current():
            measurement.enter(order)
        watch = LeakDetector(TreeWatch(root) if order.shared else None)
        inbox = os.open(order.inbox, os.O_RDONLY)
        outbox = os.open(order.outbox, os.O_WRONLY)
        channel = Channel(raise_descriptor(inbox), raise_descriptor(outbox))
        output = OutputFile(order.log)
        # Drops the loader's choice of a temporary folder.
        tempfile.tempdir = None
        recorder = Recorder(channel, output, watch, root)
        temporary = order.environment.get("TMPDIR", "")
        kept_files = KeptFiles(root, order.artifact_paths) if order.artifact_paths else None
        return cls(channel, output, recorder, temporary, order.shared, order.coverage, kept_files)

    def serve(self, project: Project) -> None:
        """Answers the slot's messages with the project, until there are no more."""
        while (message := self._next()) is not None:
            self._channel.send(self._answer(project, message))
        with contextlib.suppress(Exception, SystemExit):
            project.close()
        if self._coverage_file and (measurement := coverage.current()):
            measurement.end(self._coverage_file)

    def refuse(self, fatal: messages.Fatal) -> None:
        """Answers the slot's messages with the reason why there is no project."""
        while self._next() is not None:
            self._channel.send(fatal)

    def _next(self) -> messages.Message | None:
        message = self._channel.receive()
        return None if isinstance(message, messages.Goodbye) else message

    def _answer(self, project: Project, message: messages.Message) -> messages.Message:
        try:
            return self._obey(project, message)
        except (Exception, SystemExit) as error:  # Django's creation code calls sys.exit(2)
            return project.failure(message, error, self._output.take())

    def _obey(self, project: Project, message: messages.Message) -> messages.Message:
        start = now()
        match message:
            case messages.RunChunk():
                self._restore()
                if message.metrics and self._recorder.meter is None:
                    self._recorder.meter = Meter()
                self._recorder.start_chunk(message.chunk, message.artifacts, message.stops)
                return self._run(project, message)
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
            case messages.TearDown():
                failures = project.tear_down()
                if measurement := coverage.current():
                    measurement.session_over()
                return messages.TornDown(tuple(failures), self._output.take())
            case messages.WriteSuite():
                with open(message.file, "w", encoding="ascii") as file:
                    json.dump(project.identities(), file)
                return messages.SuiteWritten(now() - start)
            case _:
                return messages.Fatal("internal", f"a test process cannot answer {message.kind}")

    def _run(self, project: Project, order: messages.RunChunk) -> messages.ChunkFinished:
        measurement = coverage.current()
        if measurement:
            measurement.begin(order.coverage)
        finished = project.run(order.indices, self._recorder)
        if measurement:
            measurement.end()
        if self._kept_files is not None:
            files, left = self._kept_files.take(order.files)
            finished = replace(finished, files=files, files_left=left)
        return finished

    def _restore(self) -> None:
        """Restores what the last chunk may have removed and this one needs."""
        self._output.restore()
        with contextlib.suppress(Exception):
            _makedirs(self._temporary, exist_ok=True)


def end_process() -> None:
    """Does what the sequential run does at its end, as far as that still has an effect."""
    with contextlib.suppress(Exception, SystemExit):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
