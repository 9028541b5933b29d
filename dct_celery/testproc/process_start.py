"""How this process was started, so that it can be started again without what it has become.

Taken at import, before anything of the project runs. The command line is that of
`adapters.process.BOOT`: descriptors of the channel come last.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from typing import NoReturn

from dct_celery.testproc.channel import Channel
from dct_celery.wire import messages

_execve = os.execve
_PYTHON = sys.executable
#: The command line as far as to the package's folder.
_COMMAND = sys.orig_argv[1:4]
ENVIRONMENT = dict(os.environ)
_MASK = signal.pthread_sigmask(signal.SIG_BLOCK, ())


def command(*descriptors: int) -> list[str]:
    """The command line of a process of our own."""
    return [_PYTHON, *_COMMAND, *map(str, descriptors)]


def replace_loader(load: messages.Load, channel: Channel, first: messages.Message) -> NoReturn:
    """Makes this process, as it is known to the worker, one that has loaded nothing.

    It sends `first` as soon as it takes orders, and starts a process for each of them. Whatever the
    project has opened or started in this one is gone: the next process may need the same port.
    """
    state = os.memfd_create("dct-loader", 0)
    with open(state, "wb", closefd=False) as file:
        file.write(b"\n".join(message.encode() for message in (load, first)))
    os.lseek(state, 0, os.SEEK_SET)
    for fd in channel.descriptors:
        os.set_inheritable(fd, True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_SETMASK, _MASK)
    _execve(_PYTHON, command(*channel.descriptors, state), ENVIRONMENT)


def read_state(fd: int) -> Iterable[messages.Message]:
    """What `replace_loader` has left: the Load, and the first message."""
    with open(fd, "rb") as file:
        return [messages.decode(line) for line in file.read().split(b"\n")]
