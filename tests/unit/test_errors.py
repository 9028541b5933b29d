"""Claims about `errors`: names of django-concurrent-test catch what is raised in their place."""

from __future__ import annotations

import pytest

from dct_celery import errors

OLD = [
    "ConcurrentTestException", "ConfigurationException", "DatabaseCloneException",
    "DatabaseTemplateException", "PermissionException", "ResourceException", "SecurityException",
    "TestTimeoutException", "UnsupportedDatabase", "WorkerRetryException", "WorkerTimeout",
]  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_every_old_name_is_caught_by_the_old_base(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.DatabaseTemplateException)


@pytest.mark.parametrize(
    ("raised", "caught"),
    [
        (errors.GuardRefused, errors.SecurityException),
        (errors.GuardRefused, errors.ConfigurationException),
        (errors.DatabaseUnfit, errors.PermissionException),
        (errors.UnsupportedDatabase, errors.PermissionException),
        (errors.MachineUnfit, errors.ResourceException),
        (errors.LeaseLost, errors.WorkerTimeout),
        (errors.StoreUnavailable, errors.WorkerRetryException),
        (errors.CloneFailed, errors.DatabaseCloneException),
        (errors.ProcessDied, errors.TestTimeoutException),
    ],
)
def test_what_is_raised_here_is_caught_by_the_old_name(
    raised: type[Exception], caught: type[Exception]
) -> None:
    assert issubclass(raised, caught)


def test_what_no_retry_can_mend_exits_with_4() -> None:
    for unfit in (errors.GuardRefused, errors.UnsupportedDatabase, errors.MachineUnfit):
        assert unfit.exit_code == 4
