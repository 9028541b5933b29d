"""Claims about `validation`: what a tool of a project asks is answered as a run answers it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dct_celery import machine, security
from dct_celery.databases import wait_for_database_ready
from dct_celery.errors import (
    ConfigError,
    ConfigurationException,
    GuardRefused,
    SecurityException,
)
from dct_celery.machine import Machine
from tests.support.django_settings import databases, sqlite

GIB = 2**30


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without [tool.dct], on a machine with room for two slots."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "look", lambda: Machine(2, 16 * GIB, 8 * GIB))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[None]:
    """The databases `default` and `archive`, which looks like production."""
    with databases(default=sqlite(tmp_path / "shop"), archive=sqlite(tmp_path / "archive_prod")):
        yield


class TestNames:
    @pytest.mark.parametrize("name", ["test_shop", "shop", "shop-ci", "test_prod_1_dev", "a" * 63])
    def test_a_harmless_name_passes(self, name: str) -> None:
        security.validate_database_name(name)

    @pytest.mark.parametrize(
        "name", ["prod_main", "production", "live_main", "staging", "shopprod"]
    )
    def test_a_name_like_productions_is_refused(self, name: str) -> None:
        with pytest.raises(SecurityException, match=r"looks like production \(the word"):
            security.validate_database_name(name)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "is not made of letters"),
            ("a;DROP TABLE b", "is not made of letters"),
            ("a\n", "is not made of letters"),
            ("-h", "is not made of letters"),
            ("é", "is not made of letters"),
            ("a" * 64, "has 64 bytes, and PostgreSQL would cut it to 63"),
        ],
    )
    def test_a_name_that_no_server_takes_as_it_is_is_refused(self, name: str, why: str) -> None:
        with pytest.raises(SecurityException, match=why):
            security.validate_database_name(name)

    def test_what_a_run_allows_and_denies_is_allowed_and_denied(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        (tmp_path / "pyproject.toml").write_text('[tool.dct]\nallow-database = ["prod_*"]\n')
        monkeypatch.setenv("DCT_DENY_DATABASE", "crm*")
        monkeypatch.setenv("DCT_DENY_DB_HOST", "localhost")  # it says nothing about names
        # When / Then
        security.validate_database_name("prod_fixtures")
        with pytest.raises(SecurityException, match="--deny-database"):
            security.validate_database_name("crm_2")


@pytest.mark.usefixtures("shop")
class TestEnvironment:
    def test_databases_that_tests_use_are_refused_like_productions(self) -> None:
        with pytest.raises(SecurityException, match=r"'archive': NAME .* looks like production"):
            security.validate_environment()

    def test_those_that_they_do_not_use_are_left_alone(self) -> None:
        assert security.validate_environment(["default"]) == []
        assert security.validate_environment("default") == []

    def test_an_alias_that_is_not_there_is_named(self) -> None:
        with pytest.raises(ConfigError, match="no alias 'shop'; it has 'default', 'archive'"):
            security.validate_environment(["shop"])

    def test_a_variable_that_names_production_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DJANGO_ENV", "production")
        with pytest.raises(SecurityException, match="DJANGO_ENV is 'production'"):
            security.validate_environment(["default"])

    def test_more_workers_than_there_is_room_for_are_a_warning(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DJANGO_TEST_WORKERS", "8")
        assert security.validate_environment(["default"]) == [
            "DJANGO_TEST_WORKERS is 8, and this machine has room for 2 slots: 2 cores"
        ]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("DJANGO_TEST_WORKERS", "0"),
            ("DJANGO_TEST_WORKERS", "many"),
            ("DJANGO_TEST_TIMEOUT", "0"),
            ("DJANGO_TEST_TIMEOUT", "-5"),
            ("DJANGO_TEST_TIMEOUT", "nan"),
        ],
    )
    def test_nonsense_is_refused_by_name(
        self, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(
            ConfigurationException, match=f"^{name}: .*{value}.* is not valid; give"
        ):
            security.validate_environment(["default"])

    def test_no_limit_of_an_hour_is_made_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DJANGO_TEST_TIMEOUT", "7200")
        assert security.validate_environment(["default"]) == []


def test_while_tests_run_the_test_database_is_not_refused_for_its_name(tmp_path: Path) -> None:
    # Given a test database of a name that the project chose, which Django has put into NAME
    name = str(tmp_path / "chosen")
    given = sqlite(name, TEST={"NAME": name})
    # When / Then outside of tests, that would drop the project's own
    with databases(default=given), pytest.raises(GuardRefused, match="Django would drop"):
        security.validate_environment()
    with databases(test_environment=True, default=given):
        assert security.validate_environment() == []


def test_without_settings_it_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="set DJANGO_SETTINGS_MODULE, or call"):
        security.validate_environment()


class TestContext:
    def test_it_looks_first_and_says_what_there_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # Given
        monkeypatch.setenv("DJANGO_TEST_WORKERS", "8")
        # When
        with databases(default=sqlite(tmp_path / "shop")), security.security_context() as resources:
            count = security.get_safe_worker_count()
        # Then
        assert count == resources["safe_worker_count"] == 2
        assert "DJANGO_TEST_WORKERS is 8" in caplog.text

    @pytest.mark.usefixtures("shop")
    def test_what_is_refused_keeps_the_block_from_running(self) -> None:
        with pytest.raises(SecurityException), security.security_context():
            pytest.fail("it ran")

    def test_what_the_block_raises_passes(self, tmp_path: Path) -> None:
        with (
            databases(default=sqlite(tmp_path / "shop")),
            pytest.raises(ZeroDivisionError),
            security.security_context(),
        ):
            raise ZeroDivisionError


def test_resources_have_the_documented_keys_with_figures() -> None:
    # When
    resources = security.check_system_resources()
    # Then
    assert resources["cpu_count"] == 2
    assert 0 <= resources["cpu_percent"] <= 100
    assert resources["memory_available_gb"] == 8.0
    assert resources["memory_total_gb"] == 16.0
    assert resources["disk_free_gb"] > 0
    assert resources["safe_worker_count"] == 2
    assert resources["safe_worker_reason"] == "2 slots: 2 cores"


class TestFilePermissions:
    def test_what_everybody_can_change_is_refused(self, tmp_path: Path) -> None:
        for path in (tmp_path / "file", tmp_path / "folder"):
            path.touch() if path.name == "file" else path.mkdir()
            path.chmod(0o777)
            with pytest.raises(SecurityException, match=r"\(mode 0777\); chmod o-w"):
                security.validate_file_permissions(path)

    def test_what_its_group_can_change_is_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (file := tmp_path / "file").touch()
        file.chmod(0o664)
        security.validate_file_permissions(str(file))
        assert f"its group can change {file} (mode 0664)" in caplog.text

    def test_the_rest_passes(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (file := tmp_path / "file").touch(mode=0o644)
        for path in (file, tmp_path / "absent", Path("/tmp")):
            security.validate_file_permissions(path)
        assert not caplog.records

    def test_what_cannot_be_looked_at_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be looked at: Not a directory"):
            security.validate_file_permissions(tmp_path / "file" / "inside")


class TestPermissions:
    def test_sqlite_has_none_that_could_be_missing(self, tmp_path: Path) -> None:
        with databases(default=sqlite(tmp_path / "absent" / "shop")):
            security.validate_database_permissions()

    @pytest.mark.usefixtures("shop")
    def test_production_is_not_looked_at(self) -> None:
        with pytest.raises(SecurityException, match="looks like production"):
            security.validate_database_permissions("archive")


class TestLogs:
    def test_secrets_are_masked_by_what_stands_around_them(self) -> None:
        # Given
        text = "password=hush1 user=me api_key: 'k-1' redis://:s3cret@host/0 monkey=7"
        # When / Then
        assert security.sanitize_log_output(text) == (
            "password=** user=me api_key: '**' redis://:**@host/0 monkey=7"
        )

    def test_secrets_are_masked_by_value(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        monkeypatch.setenv("SHOP_TOKEN", "tok-12345678")
        database = {**sqlite(tmp_path / "shop"), "PASSWORD": "open-sesame"}
        text = "sent tok-12345678, open-sesame and not a secret"
        # When / Then only what is known can be
        assert security.sanitize_log_output(text) == "sent **, open-sesame and not a secret"
        with databases(default=database):
            assert security.sanitize_log_output(text) == "sent **, ** and **"

    def test_text_without_secrets_comes_back(self) -> None:
        assert security.sanitize_log_output("") == ""
        assert security.sanitize_log_output("2 passed\n") == "2 passed\n"


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", ["", None])
def test_no_name_is_no_database_that_is_ready(name: Any) -> None:
    with pytest.raises(ConfigError, match=f"^name is {name!r}; give that of a database"):
        wait_for_database_ready(name, timeout=0)


def test_the_reason_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dct_celery"):
        assert security.get_safe_worker_count() == 2
    assert "2 slots: 2 cores" in caplog.text
