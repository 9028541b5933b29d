"""What the middleware does, changed while tests run, and what it found."""

from __future__ import annotations

import contextlib
import difflib
import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dct_celery.errors import UsageError

logger = logging.getLogger("dct_celery.testing")

_DEFAULTS: dict[str, Any] = {
    "enabled": True,
    "delay_range": (0.1, 0.5),
    "probability": 0.3,
    "seed": None,
    "slow_request_seconds": 5.0,
    "ignore": (),
}
#: Of these, Django settings change the default.
_SETTINGS = {
    "enabled": "CONCURRENT_TEST_ENABLED",
    "delay_range": "CONCURRENT_TEST_DELAY_RANGE",
    "probability": "CONCURRENT_TEST_PROBABILITY",
}
_CONTEXT = {"enabled": True, "delay_range": (0.05, 0.2), "probability": 0.5}

_lock = threading.Lock()
_overrides: dict[str, Any] = {}
_listeners: list[list[Finding]] = []


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the middleware saw in requests of a test."""

    kind: str
    """`session`, `shared state`, `slow request` or `mutation`."""
    message: str

    def __str__(self) -> str:
        return self.message


def set_test_override(key: str, value: Any) -> None:
    """Changes what the middleware does from its next request on, in all threads.

    key: `enabled`; `delay_range`, (min, max) in seconds, and `probability` of a delay, with `seed`;
        `slow_request_seconds`; `ignore`, a list of names of globals and settings, with `*`.

    Raises UsageError for an unknown key or a bad value.
    """
    _check(key, value)
    with _lock:
        _overrides[key] = value


def get_test_override(key: str, default: Any = None) -> Any:
    """What holds for `key`, or `default` if there is no such key."""
    with _lock:
        if key in _overrides:
            return _overrides[key]
    return _from_settings(key) if key in _DEFAULTS else default


def reset_test_overrides() -> None:
    """As if nothing had been set."""
    with _lock:
        _overrides.clear()


@contextlib.contextmanager
def concurrent_test_context(**overrides: Any) -> Iterator[list[Finding]]:
    """Within it the middleware is enabled and delays half of the requests by 0.05 to 0.2 s.

    overrides: see `set_test_override`. Yields a list that gets each finding of the middleware;
    afterwards the overrides are as before.
    """
    wanted = {**_CONTEXT, **overrides}
    for key, value in wanted.items():
        _check(key, value)
    findings: list[Finding] = []
    with _lock:
        before = dict(_overrides)
        _overrides.update(wanted)
        _listeners.append(findings)
    try:
        yield findings
    finally:
        with _lock:
            _overrides.clear()
            _overrides.update(before)
            _listeners[:] = [one for one in _listeners if one is not findings]


def report(kind: str, message: str) -> None:
    """A finding: a warning in the log, and an entry in the lists of contexts."""
    logger.warning("%s", message)
    with _lock:
        for findings in _listeners:
            findings.append(Finding(kind, message))


def check_settings() -> None:
    """Raises UsageError for a Django setting of the middleware that has a bad value."""
    for key in _SETTINGS:
        _from_settings(key)


def _from_settings(key: str) -> Any:
    from django.conf import settings

    name = _SETTINGS.get(key)
    if name is None or not settings.configured or not hasattr(settings, name):
        return _DEFAULTS[key]
    value = getattr(settings, name)
    _check(key, value, f"setting {name}")
    return value


def _check(key: str, value: Any, origin: str = "") -> None:
    if key not in _DEFAULTS:
        near = difflib.get_close_matches(str(key), _DEFAULTS, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_DEFAULTS)}"
        raise UsageError(f"no test override is called {key!r}: {known}")
    if problem := problem_of(key, value):
        raise UsageError(f"{origin or f'test override {key!r}'} is {value!r}: {problem}")


def problem_of(key: str, value: Any) -> str:
    """What is wrong with a value of this key, as advice; "" if nothing is."""
    if key == "enabled":
        if not isinstance(value, bool):
            return "give True or False"
    elif key == "delay_range":
        fits = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_number, value))
        if not fits or not 0 <= value[0] <= value[1]:
            return "give (min, max) in seconds, 0 <= min <= max"
    elif key == "seed":
        if value is not None and not isinstance(value, (int, float, str, bytes)):
            return "give a whole number"
    elif key == "probability":
        if not _number(value) or not 0 <= value <= 1:
            return "give a number from 0 to 1"
    elif key == "slow_request_seconds":
        if not _number(value) or value <= 0:
            return "give seconds above 0"
    elif key == "ignore" and not _names(value):
        return "give a list of names"
    return ""


def _names(value: object) -> bool:
    return isinstance(value, (list, tuple, set)) and all(isinstance(one, str) for one in value)


def _number(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]
