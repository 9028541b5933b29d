"""The loader of a project that has threads: each of its test processes loads the project by itself.

    loader       load ─▶ threads ─▶ replaced by this one, which has loaded nothing
    this         order ─▶ a new process
    new process  FIFOs ─▶ load ─▶ attach ─▶ run … run

To the worker it is the same process, and to a slot a test process is one however it came about,
but for the time it takes.
"""

from __future__ import annotations

import os
from dataclasses import replace

from dct_celery.testproc import process_start
from dct_celery.testproc.loader import Loader, variables_of
from dct_celery.wire import framing, messages


class SpawningLoader(Loader):
    """Has loaded nothing."""

    def _answer(self, message: messages.Message) -> messages.Message:
        if isinstance(message, messages.MigrateAgain):
            return messages.MigratedAgain(0.0)  # each test process does it
        return super()._answer(message)

    def _start(self, order: messages.ForkOrder, path: str) -> int:
        inbox, to = os.pipe()
        outbox = os.open(os.devnull, os.O_WRONLY)
        for fd in (inbox, outbox):
            os.set_inheritable(fd, True)
        environment = process_start.ENVIRONMENT
        argv = process_start.command(inbox, outbox)
        pid = os.posix_spawn(
            argv[0],
            argv,
            {**environment, **variables_of(order, environment)},
            setsigmask=self._old_mask,
        )
        os.close(inbox)
        os.close(outbox)
        with open(to, "wb") as pipe:
            pipe.write(framing.frame(replace(self._load, fork_order=path).encode()))
        return pid
