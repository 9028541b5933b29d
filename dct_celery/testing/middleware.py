"""Middleware for tests: it watches requests that run at the same time, or spreads them.

All three refuse to be installed outside tests. What they find is a warning of the logger
`dct_celery.testing`, and in the list that `concurrent_test_context()` gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import fnmatch
import functools
import itertools
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured

from dct_celery.testing import overrides
from dct_celery.testing.databases import in_tests
from dct_celery.testing.project import is_being_imported, project_modules
from dct_celery.testing.shared import flat_namespace, flat_value
from dct_celery.testing.values import Flat, name

_NAMES = (
    "dct_celery.testing.ConcurrentSafetyMiddleware",
    "dct_celery.testing.StateMutationMiddleware",
    "dct_celery.testing.ConcurrencySimulationMiddleware",
)

_TEST_MODULE = re.compile(r"(^|[._])tests?$|(^|\.)(test_\w+|conftest)$")


class _Middleware:
    """Sync and async, as the rest of the chain is."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        _refuse_outside_tests(f"dct_celery.testing.{type(self).__name__}")
        overrides.check_settings()
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if iscoroutinefunction(self):
            return self._answer_async(request)
        if not overrides.get_test_override("enabled"):
            return self.get_response(request)
        with self.watch(request):
            return self.get_response(request)

    async def _answer_async(self, request: Any) -> Any:
        response: Awaitable[Any] = self.get_response(request)
        if not overrides.get_test_override("enabled"):
            return await response
        with self.watch(request):
            return await response

    @contextlib.contextmanager
    def watch(self, request: Any) -> Iterator[None]:
        """Around the rest of the chain."""
        yield


def _refuse_outside_tests(what: str) -> None:
    if not in_tests():
        raise ImproperlyConfigured(
            f"{what} is for tests alone and no tests are running: take it out of MIDDLEWARE, "
            "and have auto_register_middleware() add it in tests"
        )


# -- requests at the same time -------------------------------------------------------------------


@dataclass(eq=False)
class _Active:
    """A request that is being answered."""

    title: str
    before: _State
    #: Titles of those that were answered at the same time, some of the time.
    beside: set[str] = field(default_factory=set)


_lock = threading.Lock()
_numbers = itertools.count(1)
_active: set[_Active] = set()
#: Session key -> what was saved last, and by whom; until a request finds no other one. (Sessions
#: are saved after the last that their requests show here.)
_saved: dict[str, tuple[dict[str, Any], str]] = {}
_reported: set[str] = set()


class ConcurrentSafetyMiddleware(_Middleware):
    """Reports, of requests that run at the same time: a session of which one overwrites what
    another one saved, and globals of the project that change meanwhile; of each request: whether it
    is slow (`slow_request_seconds`).
    """

    @contextlib.contextmanager
    def watch(self, request: Any) -> Iterator[None]:
        """Sets `request.concurrent_request_id` and `concurrent_start_time`, too."""
        with _lock:
            request.concurrent_request_id = next(_numbers)
        request.concurrent_start_time = time.time()
        began = time.monotonic()
        mine = _Active(f"{request.method} {request.path}", _globals())
        with _lock:
            if not _active:
                _saved.clear()
                _reported.clear()
            for other in _active:
                other.beside.add(mine.title)
                mine.beside.add(other.title)
            _active.add(mine)
        try:
            yield
        finally:
            self._ended(mine, time.monotonic() - began)

    def process_view(self, request: Any, *_: Any) -> None:
        """Here there is a session, wherever in MIDDLEWARE its own one is."""
        if hasattr(request, "concurrent_request_id") and hasattr(request, "session"):
            _watch_session(request.session, f"{request.method} {request.path}")

    def _ended(self, mine: _Active, seconds: float) -> None:
        changed = _changes(mine.before, _globals()) if mine.beside else []
        with _lock:
            _active.discard(mine)
            fresh = [path for path in changed if path not in _reported]
            _reported.update(fresh)
        for path in fresh:
            overrides.report(
                "shared state",
                f"{path} changed while {mine.title} and {', '.join(sorted(mine.beside))} ran at "
                "the same time: one may have undone what the other did",
            )
        if seconds > overrides.get_test_override("slow_request_seconds"):
            overrides.report("slow request", f"{mine.title} took {seconds:.2f} s")


def _watch_session(session: Any, title: str) -> None:
    """Has it say what it overwrites when it is saved."""
    loaded: dict[str, Any] = {}

    def remember() -> None:
        loaded.update(copy.deepcopy(session._session_cache))

    def about_to_save() -> None:
        mine = copy.deepcopy(session._session)
        with _lock:
            theirs, by = _saved.get(session.session_key, (loaded, ""))
            _saved[session.session_key] = (mine, title)
        lost = sorted(
            str(key)
            for key in theirs.keys() | loaded.keys()
            if theirs.get(key) != loaded.get(key) and mine.get(key) != theirs.get(key)
        )
        if lost:
            overrides.report(
                "session",
                f"{title} overwrote in its session what {by} had saved since it was read: "
                f"{', '.join(lost)}",
            )

    if hasattr(session, "_session_cache"):
        remember()
    load, save = session.load, session.save

    def watched_load() -> Any:
        data = load()
        loaded.update(copy.deepcopy(data))
        return data

    def watched_save(must_create: bool = False) -> None:
        if not must_create and session.session_key is not None:
            about_to_save()
        save(must_create)

    session.load, session.save = watched_load, watched_save
    if hasattr(session, "aload"):
        aload, asave = session.aload, session.asave

        async def watched_aload() -> Any:
            data = await aload()
            loaded.update(copy.deepcopy(data))
            return data

        async def watched_asave(must_create: bool = False) -> None:
            if not must_create and session.session_key is not None:
                about_to_save()
            await asave(must_create)

        session.aload, session.asave = watched_aload, watched_asave


# -- state that a request changes ------------------------------------------------------------------


class StateMutationMiddleware(_Middleware):
    """Reports globals and class attributes of the project, and Django settings, that are other
    after a request: the next one finds them so, in this process alone.
    """

    @contextlib.contextmanager
    def watch(self, request: Any) -> Iterator[None]:
        before = {**_globals(), **_settings()}
        try:
            yield
        finally:
            for path in _changes(before, {**_globals(), **_settings()}):
                overrides.report("mutation", f"{request.method} {request.path} changed {path}")


#: Module, or "settings" -> its data.
_State = dict[str, Flat]


def _globals() -> _State:
    """Of the project's modules but those of its tests."""
    return {
        module.__name__: flat_namespace(vars(module))
        for module in project_modules()
        if not _TEST_MODULE.search(module.__name__) and not is_being_imported(vars(module))
    }


def _settings() -> _State:
    """What was set, by whom ever, or is a default; asking for a deprecated one would warn."""
    from django.conf import settings

    found: dict[str, Any] = {}
    holder: Any = settings._wrapped
    while holder is not None:
        for setting, value in list(vars(holder).items()):
            if setting.isupper():
                found.setdefault(setting, value)
        holder = vars(holder).get("default_settings")
    state: Flat = {}
    for setting, value in found.items():
        state |= flat_value(("settings", f".{setting}"), value)
    return {"settings": state}


def _changes(before: _State, after: _State) -> list[str]:
    """Names of what differs and is not ignored. What a module that was imported meanwhile has is no
    change.
    """
    ignored = overrides.get_test_override("ignore")
    changed = {
        name(path)
        for module in before.keys() & after.keys()
        for path in before[module].keys() | after[module].keys()
        if before[module].get(path) != after[module].get(path)
    }
    return sorted(
        one for one in changed if not any(fnmatch.fnmatchcase(one, pattern) for pattern in ignored)
    )


# -- delays ----------------------------------------------------------------------------------------


class ConcurrencySimulationMiddleware(_Middleware):
    """Delays requests by chance, so that they overlap in ways that they seldom do: each with
    `probability`, by seconds from `delay_range`.
    """

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        super().__init__(get_response)
        self._chance = functools.cache(random.Random)

    def __call__(self, request: Any) -> Any:
        if iscoroutinefunction(self):
            return self._delayed(request)
        if delay := self._delay():
            time.sleep(delay)
        return self.get_response(request)

    async def _delayed(self, request: Any) -> Any:
        if delay := self._delay():
            await asyncio.sleep(delay)
        return await self.get_response(request)

    def _delay(self) -> float:
        """In seconds, often 0."""
        get = overrides.get_test_override
        if not get("enabled"):
            return 0.0
        with _lock:
            chance = self._chance(get("seed"))
            if chance.random() >= get("probability"):
                return 0.0
            return chance.uniform(*get("delay_range"))


def auto_register_middleware() -> list[str]:
    """Adds those of the three that are not yet there to the end of `settings.MIDDLEWARE`.

    Returns their names. Raises ImproperlyConfigured outside tests.
    """
    from django.conf import settings

    _refuse_outside_tests("auto_register_middleware()")
    added = [one for one in _NAMES if one not in settings.MIDDLEWARE]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *added]
    return added


def get_middleware_config() -> dict[str, Any]:
    """The names for MIDDLEWARE, and the settings that the middleware reads with their defaults."""
    return {
        "middleware_classes": list(_NAMES),
        "settings": {
            "CONCURRENT_TEST_ENABLED": True,
            "CONCURRENT_TEST_DELAY_RANGE": (0.1, 0.5),
            "CONCURRENT_TEST_PROBABILITY": 0.3,
        },
    }
