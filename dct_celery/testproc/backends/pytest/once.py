"""Fixtures of the session that are set up once on each host, before the loader forks.

The project names them in its configuration: `dct_once = server images`. They are set up in the
loader, which tears them down when it ends, and test processes have what was set up as their forks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dct_celery.testproc.backends.pytest.manifest import fixtures_of
from dct_celery.testproc.isolation import threads

#: Name in the configuration.
OPTION = "dct_once"
#: A fixture that uses these has databases, of which each test process has its own.
_OF_DATABASES = frozenset({"django_db_setup", "django_db_blocker"})


class Refused(Exception):
    """A fixture that cannot be set up once. The text is for the project."""


class OnceFixtures:
    """Those of a session, as far as a selected test uses them."""

    def __init__(self, session: pytest.Session) -> None:
        """Raises Refused."""
        self._session = session
        names = dict.fromkeys(session.config.getini(OPTION))
        #: Name -> a test that uses it.
        self._users: dict[str, Any] = {}
        for item in session.items if names else ():
            known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
            for name in names:
                if name in known and name not in self._users:
                    self._users[name] = item
                    _check(name, known)
        #: What the loader will run at its end. In forks it must neither run nor be collected: a
        #: generator that is collected goes on behind its yield.
        self._kept: list[object] = []
        #: Something is set up, for the loader to tear down.
        self.lasting = False

    def set_up(self) -> None:
        """In the loader. An exception of a fixture stays with it: each test that needs it fails.

        Nothing where threads of the project prevent that the loader forks: there each test process
        sets up fixtures by itself. Raises Refused.
        """
        if not self._users or threads.settle():
            return
        enter(self._session)
        self.lasting = True
        for name, item in self._users.items():
            try:
                set_up_fixture(item, name)
            except (Exception, pytest.skip.Exception, pytest.fail.Exception):
                continue
            if left := threads.settle():
                self._session._setupstate.teardown_exact(None)
                raise Refused(
                    f"{OPTION}: the fixture {name!r} leaves a thread ({left[0]}), which the test"
                    " processes, as forks, do not have; take it from there"
                )

    def leave_to_the_loader(self) -> None:
        """In a fork, before anything runs: tearing down is not for it."""
        for finalizers, _ in self._session._setupstate.stack.values():
            self._kept += finalizers[1:]  # the first is the node's own tear-down
            del finalizers[1:]
        for fixture in {id(one): one for one in self._set_up()}.values():
            self._kept += fixture._finalizers
            fixture._finalizers.clear()

    def _set_up(self) -> Iterator[Any]:
        for item in self._users.values():
            yield from (one for one in fixtures_of(item) if one.cached_result is not None)


def _check(name: str, known: dict[str, Any]) -> None:
    """Raises Refused. `known`: the definitions for a test that uses the fixture."""
    fixture = known[name][-1]
    if fixture.scope != "session":
        raise Refused(
            f"{OPTION}: the fixture {name!r} has the scope {fixture.scope}, and only one of scope"
            " session lasts; take it from there, or give it that scope"
        )
    if fixture.params is not None:
        raise Refused(
            f"{OPTION}: the fixture {name!r} has parameters, so it is set up several times; take it"
            " from there"
        )
    if used := _OF_DATABASES & set(_needs(name, known)):
        raise Refused(
            f"{OPTION}: the fixture {name!r} uses {min(used)}, and each test process has"
            " databases of its own; take it from there"
        )


def _needs(name: str, known: dict[str, Any]) -> set[str]:
    """The fixture, and all that it asks for by name."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += [other for each in known.get(one, ()) for other in each.argnames]
    return found


class _Root:
    """As much of an item as is needed to set up the session alone."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session

    def listchain(self) -> list[Any]:
        return [self._session]


def enter(session: pytest.Session) -> None:
    """From now on, fixtures of the session can be set up without a test that runs."""
    state: Any = session._setupstate
    if not state.stack:
        state.setup(_Root(session))


def set_up_fixture(item: pytest.Item, name: str) -> None:
    """Sets up a fixture of the session as if the item asked for it, which does not run yet."""
    from _pytest.fixtures import TopRequest

    # A request of its own, so that the item's is unused when the item runs.
    request: Any = TopRequest(item, _ispytest=True)  # type: ignore[arg-type]
    stack: Any = item.session._setupstate.stack
    # pytest gives fixtures to items alone that are being set up.
    stack[item] = ([], None)
    try:
        request.getfixturevalue(name)
    finally:
        del stack[item]
