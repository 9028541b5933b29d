"""Claims about `worker.host.machine_environment`: the store has it, and has it again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from dct_celery.adapters.process import describe_environment
from dct_celery.core.environment import fingerprint
from dct_celery.core.ids import digest_of
from dct_celery.errors import ProcessDied
from dct_celery.protocol.door import parse
from dct_celery.protocol.workers import MachineEnvironment as Told
from dct_celery.worker.host.machine_environment import DESCRIBE_AFTER, RENEW, MachineEnvironment
from tests.support.fake_clock import FakeClock


def described(describe: Callable[[], bytes]) -> tuple[MachineEnvironment, Any]:
    """The environment once its thread has ended, and the services that it uses."""
    services: Any = Mock(clock=FakeClock(), describe_environment=describe)
    environment = MachineEnvironment(services)
    environment._describe()
    return environment, services


def test_it_is_described_once_some_seconds_after_the_worker_has_started() -> None:
    # Given
    services: Any = Mock(clock=FakeClock())
    services.describe_environment.return_value = b"{}"
    environment = MachineEnvironment(services)
    described = []
    # When
    for _ in range(5):
        environment.renew()
        if environment._thread.ident is not None:
            environment._thread.join(10)
        described.append(services.describe_environment.call_count)
        services.clock.now += DESCRIBE_AFTER / 2
    # Then
    assert described == [0, 0, 1, 1, 1]


def test_its_digest_is_said_and_its_content_is_in_the_store() -> None:
    # Given
    environment, services = described(lambda: b"{}")
    # When
    environment.renew()
    # Then
    assert environment.about == {"environment": digest_of(b"{}")}
    services.send_files.assert_called_once_with("", [(digest_of(b"{}"), b"{}")])


def test_it_is_put_again_before_the_store_forgets_it() -> None:
    # Given
    environment, services = described(lambda: b"{}")
    for _ in range(2):
        environment.renew()
    assert services.send_files.call_count == 1
    # When
    services.clock.now += RENEW
    environment.renew()
    # Then
    assert services.send_files.call_count == 2


def test_an_interpreter_that_is_not_there_is_logged_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # When
    environment, services = described(lambda: describe_environment("/no/python", {}, "k"))
    environment.renew()
    # Then
    assert environment.about == {}
    services.send_files.assert_not_called()
    assert "the interpreter /no/python does not describe itself" in caplog.text
    assert "check DCT_PYTHON" in caplog.text


def test_an_interpreter_describes_itself_and_no_value_leaves_it() -> None:
    # When
    content = describe_environment(sys.executable, {"APP_TOKEN": "hush-1", "HOME": "/root"}, "k")
    told = parse(Told, content)
    # Then
    assert told.facts["python"] == sys.version.split()[0]
    assert "package:django" in told.facts
    assert told.variables[fingerprint("k", "APP_TOKEN")] == fingerprint("k", "APP_TOKEN", "hush-1")
    assert fingerprint("k", "HOME") not in told.variables
    assert b"hush" not in content
    assert b"APP_TOKEN" not in content


def test_one_that_fails_is_an_error_of_one_line() -> None:
    with pytest.raises(ProcessDied, match="/bin/false does not describe itself"):
        describe_environment("/bin/false", {}, "k")
