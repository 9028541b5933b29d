"""simulate_concurrent_requests: many requests at the same time, and what came of them."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dct_celery.errors import UsageError
from dct_celery.testing.calls import (
    called,
    check_count,
    check_function,
    check_seconds,
    check_seed,
)
from dct_celery.testing.databases import Databases
from dct_celery.testing.overrides import problem_of

_HERE = "simulate_concurrent_requests"


@dataclass(frozen=True, slots=True)
class SimulatedRequest:
    """One request; `request["status"]` is `request.status`."""

    request_id: int
    status: str
    """`success`: it was answered, with whatever status code; else `error`."""
    result: Any = None
    """What `request_func` returned: a response, as a rule."""
    error: str | None = None
    exception: BaseException | None = None
    seconds: float = 0.0
    """From the request to its answer."""

    @property
    def status_code(self) -> int | None:
        """Of the response, or the number that was returned; None if there is neither."""
        code = getattr(self.result, "status_code", self.result)
        return code if isinstance(code, int) and 100 <= code <= 599 else None

    def __getitem__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)


class SimulatedRequests(list[SimulatedRequest]):
    """All of them, by their number."""

    @property
    def statuses(self) -> list[int]:
        """The status codes of those that were answered."""
        return [one.status_code for one in self if one.status_code is not None]

    @property
    def latencies(self) -> list[float]:
        """Seconds of each, answered or not."""
        return [one.seconds for one in self]

    @property
    def errors(self) -> list[BaseException]:
        """What was raised instead of an answer."""
        return [one.exception for one in self if one.exception is not None]

    def __repr__(self) -> str:
        codes = {code: self.statuses.count(code) for code in sorted(set(self.statuses))}
        counted = ", ".join(f"{count} × {code}" for code, count in codes.items()) or "no answer"
        median = statistics.median(self.latencies) if self else 0.0
        return (
            f"<{len(self)} requests: {counted}, {len(self.errors)} errors, median {median:.3f} s>"
        )


def simulate_concurrent_requests(
    request_func: Callable[..., Any],
    num_requests: int = 10,
    delay_range: tuple[float, float] = (0.0, 0.0),
    *,
    client: Any = None,
    seed: int | None = None,
    timeout: float = 60.0,
) -> SimulatedRequests:
    """Calls `request_func` in `num_requests` threads that start together, each with connections of
    its own. What they commit stays.

    request_func: without parameters; or with one, which is then a copy of `client` with the same
        cookies and credentials. It may be `async`, or return what `AsyncClient` returns.
    delay_range: each waits so many seconds first, by chance, after `seed`.
    client: `django.test.Client()` by default, an `AsyncClient`, or `APIClient` of DRF.
    timeout: seconds until a request counts as an error.

    Raises UsageError if the arguments are wrong, or in a test that runs in a transaction, which
    other connections cannot see; and what is raised to end a test (pytest.skip(), sys.exit()).
    """
    check_function(_HERE, request_func)
    check_count(f"{_HERE}: num_requests", num_requests, 1)
    check_seconds(f"{_HERE}: timeout", timeout)
    check_seed(f"{_HERE}: seed", seed)
    if problem := problem_of("delay_range", delay_range):
        raise UsageError(f"{_HERE}: delay_range={delay_range!r}: {problem}")
    calls = _calls(request_func, num_requests, client)
    chance = random.Random(secrets.randbelow(2**31) if seed is None else seed)
    delays = [chance.uniform(*delay_range) for _ in calls]
    answers: dict[int, SimulatedRequest] = {}
    together = threading.Barrier(num_requests)
    with Databases(_HERE, stays=True) as databases:
        databases.start(0)

        def live(number: int) -> None:
            with databases.connect(lambda _: None):
                with contextlib.suppress(threading.BrokenBarrierError):
                    together.wait(timeout)
                time.sleep(delays[number])
                answers[number] = _answer(number, calls[number])

        threads = [
            threading.Thread(target=live, args=(number,), daemon=True)
            for number in range(num_requests)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout + max(delays)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            databases.kill()
        if databases.refused:
            raise UsageError(databases.refused[0])
        databases.put_back()
    for answer in answers.values():
        if answer.exception is not None and not isinstance(answer.exception, Exception):
            raise answer.exception
    return SimulatedRequests(
        answers.get(number) or _silent(number, timeout) for number in range(num_requests)
    )


def _answer(number: int, call: Callable[[], Any]) -> SimulatedRequest:
    began = time.monotonic()
    try:
        result = called(call)
    except BaseException as error:
        took = time.monotonic() - began
        return SimulatedRequest(number, "error", error=str(error), exception=error, seconds=took)
    return SimulatedRequest(number, "success", result, seconds=time.monotonic() - began)


def _silent(number: int, timeout: float) -> SimulatedRequest:
    error = TimeoutError(f"no answer within {timeout:g} s")
    return SimulatedRequest(number, "error", error=str(error), exception=error, seconds=timeout)


def _calls(request_func: Any, count: int, client: Any) -> Sequence[Callable[[], Any]]:
    """One for each thread."""
    try:
        inspect.signature(request_func).bind()
    except TypeError:
        return [_with_client(request_func, own) for own in _clients(client, count)]
    if client is not None:
        raise UsageError(
            f"{_HERE}: request_func takes no client: give it one parameter, or leave client= out"
        )
    return [request_func] * count


def _with_client(request_func: Callable[[Any], Any], client: Any) -> Callable[[], Any]:
    return lambda: request_func(client)


def _clients(client: Any, count: int) -> list[Any]:
    """Copies that share the handler, which has its middleware, as a server's requests do."""
    if client is None:
        from django.test import Client

        client = Client()
    if isinstance(client, type) or not hasattr(client, "handler"):
        raise UsageError(f"{_HERE}: client={client!r} is no test client: give one as Client()")
    handler = client.handler
    if getattr(handler, "_middleware_chain", None) is None:
        handler.load_middleware(is_async=inspect.iscoroutinefunction(type(handler).__call__))
    return [_copy(client) for _ in range(count)]


def _copy(client: Any) -> Any:
    own = copy.copy(client)
    for name, value in vars(client).items():
        if name == "cookies" or isinstance(value, dict):
            with contextlib.suppress(TypeError):
                setattr(own, name, copy.deepcopy(value))
    own.exc_info = None
    return own
