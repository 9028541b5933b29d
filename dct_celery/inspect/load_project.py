"""Loads the project for commands that run no tests, to get its databases, guards and versions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import IO

from dct_celery.dispatcher.collect import explained
from dct_celery.dispatcher.request import Request, collect_order
from dct_celery.errors import CollectionError, ProcessDied
from dct_celery.ports import UserProcess
from dct_celery.security.files import tail
from dct_celery.wire import messages


def load_project(
    request: Request,
    python: str,
    start_process: Callable[[str, messages.Load, Mapping[str, str], IO[bytes]], UserProcess],
    environment: Mapping[str, str],
    environment_key: str = "",
) -> messages.Loaded:
    """Builds the suite as `dct run` does, but discards the tests. Raises CollectionError.

    `environment_key`: see `messages.Load`.
    The whole suite must be imported, because the tests decide which databases are used.
    """
    with tempfile.TemporaryFile() as log:
        order = replace(collect_order(request), environment_key=environment_key)
        process = start_process(python, order, environment, log)
        try:
            answer = process.receive()
        except ProcessDied as died:
            raise CollectionError(
                f"the suite could not be collected: {died}", detail=tail(log)
            ) from died
        finally:
            process.kill()
            process.close(grace=1.0)
    if isinstance(answer, messages.Fatal):
        raise CollectionError(explained(answer), detail=answer.detail)
    assert isinstance(answer, messages.Loaded), answer
    return answer
