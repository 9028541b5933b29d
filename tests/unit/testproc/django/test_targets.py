"""Claims about `testproc.django.targets`.

Where a connection leads, and what opens it, is read in each place that the client library reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dct_celery.testproc.django.targets import Access, Where, access, where

_VARIABLES = (
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSSLMODE",
    "PGOPTIONS",
    "MYSQL_PWD",
    "MYSQL_TCP_PORT",
    "MYSQL_UNIX_PORT",
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path / "etc"))


def postgres(**settings: Any) -> Where:
    return where("postgresql", settings)


def mysql(**settings: Any) -> Where:
    return where("mysql", settings)


class TestPostgres:
    def test_what_django_says_is_what_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGHOST", "other")
        monkeypatch.setenv("PGDATABASE", "other")
        assert postgres(NAME="shop", HOST="db", PORT=5433) == Where("shop", "db", "5433")

    def test_variables_decide_what_is_given_nowhere_else(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {
            "PGHOST": "db",
            "PGPORT": "1",
            "PGDATABASE": "shop",
            "PGHOSTADDR": "10.0.0.5",
        }.items():
            monkeypatch.setenv(name, value)
        assert postgres(NAME="", HOST="") == Where("shop", "10.0.0.5,db", "1")

    def test_an_address_beside_a_name_counts_too(self) -> None:
        assert postgres(NAME="a", HOST="db", OPTIONS={"hostaddr": "10.0.0.5"}).host == "10.0.0.5,db"

    def test_options_pin_the_database_over_its_name(self) -> None:
        assert postgres(NAME="test", OPTIONS={"dbname": "shop"}) == Where(
            "shop", "", "", "OPTIONS['dbname']"
        )

    @pytest.mark.parametrize("place", ["own", "system", "named"])
    def test_a_service_is_read_from_the_file_that_libpq_reads(
        self, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        (tmp_path / "etc").mkdir()
        file = {"own": ".pg_service.conf", "system": "etc/pg_service.conf", "named": "mine"}[place]
        (tmp_path / file).write_text(
            "# ours\n[shop]\nhost = db\nport=6\ndbname=prod_shop\n[other]\nhost=x\n"
        )
        if place == "named":
            monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / file))
        # Then
        assert postgres(NAME="", OPTIONS={"service": "shop"}) == Where("prod_shop", "db", "6")
        assert postgres(NAME="test", HOST="h", OPTIONS={"service": "shop"}) == Where(
            "test", "h", "6"
        )
        monkeypatch.setenv("PGSERVICE", "shop")
        assert postgres(NAME="test").host == "db"

    def test_a_file_that_cannot_be_read_is_ignored(self, tmp_path: Path) -> None:
        assert postgres(NAME="a", OPTIONS={"service": "shop"}) == Where("a", "", "")
        (tmp_path / ".pg_service.conf").write_bytes(b"\xff no section\n")
        assert postgres(NAME="a", OPTIONS={"service": "shop"}) == Where("a", "", "")


class TestMysql:
    def test_options_come_before_settings_and_those_before_the_file(self, tmp_path: Path) -> None:
        # Given
        file = tmp_path / "my.cnf"
        file.write_text(
            "!includedir /etc\n[client]\nhost=db\nport=7\ndatabase='prod'\nskip-name\n[shop]\nhost"
            ' = "inner"\n'
        )
        options = {"read_default_file": str(file)}

        # Then
        assert mysql(NAME="", OPTIONS=options) == Where("prod", "db", "7")
        assert mysql(NAME="", OPTIONS={**options, "read_default_group": "shop"}).host == "inner"
        assert mysql(NAME="test", HOST="h", PORT="8", OPTIONS=options) == Where("test", "h", "8")
        assert mysql(NAME="test", HOST="h", OPTIONS={**options, "host": "o", "port": 9}) == Where(
            "test", "o", "9"
        )

    @pytest.mark.parametrize("option", ["db", "database"])
    def test_options_pin_the_database_over_its_name(self, option: str) -> None:
        assert mysql(NAME="test", OPTIONS={option: "shop"}) == Where(
            "shop", "", "", f"OPTIONS[{option!r}]"
        )

    def test_a_socket_is_a_host_of_this_machine(self) -> None:
        assert (
            mysql(NAME="a", HOST="db", OPTIONS={"unix_socket": "/run/my.sock"}).host
            == "/run/my.sock"
        )


class TestAccess:
    def test_what_settings_leave_out_comes_from_the_service_and_then_from_variables(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        (tmp_path / ".pg_service.conf").write_text(
            "[shop]\nhost=db\nuser=svc\npassword=of-service\ndbname=prod\nsslmode=require\n"
        )
        said = {"PGUSER": "env", "PGPASSWORD": "of-env", "PGPORT": "6", "PGSSLMODE": "prefer"}
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        # When
        by_variables = access("postgresql", {"HOST": "h", "USER": ""})
        by_service = access("postgresql", {"OPTIONS": {"service": "shop"}, "USER": "django"})
        # Then
        assert by_variables == Access("h", "6", "env", "of-env", {"sslmode": "prefer"})
        assert by_service == Access("db", "6", "django", "of-service", {"sslmode": "require"})

    def test_files_are_named_from_the_folder_that_the_project_runs_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PGPASSFILE", "env/pgpass")
        # Then
        for options, said in (
            ({"passfile": "ops/pgpass"}, {"passfile": f"{tmp_path}/ops/pgpass"}),
            ({}, {"passfile": f"{tmp_path}/env/pgpass"}),
            (
                {"sslrootcert": "system", "passfile": Path("/srv/p")},
                {"sslrootcert": "system", "passfile": "/srv/p"},
            ),
        ):
            assert access("postgresql", {"OPTIONS": options}).options == said

    def test_plain_options_go_along_and_objects_do_not(self) -> None:
        # Given
        options = {"pool": {"min_size": 2, "kwargs": {}}, "assume_role": "r", "cursor_factory": int}
        # Then
        assert access("postgresql", {"OPTIONS": options}).options == {
            "pool": {"min_size": 2, "kwargs": {}},
            "assume_role": "r",
        }

    def test_mysql_options_come_with_their_tls_and_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        monkeypatch.chdir(tmp_path)
        options = {
            "ssl": {"ca": "tls/ca.pem", "cipher": "AES"},
            "ssl_ca": "tls/ca.pem",
            "read_default_file": "~/my.cnf",
            "user": "o",
            "passwd": "p",
        }
        # When
        said = access("mysql", {"HOST": "h", "PORT": 7, "USER": "u", "OPTIONS": options})
        # Then
        assert (said.host, said.port, said.user, said.password) == ("h", "7", "o", "p")
        assert said.options == {
            "ssl": {"ca": f"{tmp_path}/tls/ca.pem", "cipher": "AES"},
            "ssl_ca": f"{tmp_path}/tls/ca.pem",
            "read_default_file": f"{tmp_path}/my.cnf",
        }

    def test_variables_of_mysql_count_where_neither_settings_nor_file_say_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        said = {"MYSQL_PWD": "env", "MYSQL_TCP_PORT": "7", "MYSQL_UNIX_PORT": "/run/my.sock"}
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        file = tmp_path / "my.cnf"
        file.write_text("[client]\nhost=db\nport=8\npassword=inner\n")
        options = {"read_default_file": str(file)}
        # Then
        assert access("mysql", {}) == Access("", "7", "", "env", {"unix_socket": "/run/my.sock"})
        assert access("mysql", {"OPTIONS": options}) == Access("", "", "", "", options)
        assert access("mysql", {"HOST": "h", "PASSWORD": "p"}) == Access("h", "7", "", "p", {})

    def test_no_repr_has_a_secret(self) -> None:
        settings = {"PASSWORD": "hush", "OPTIONS": {"sslpassword": "hush"}}
        assert "hush" not in repr(access("postgresql", settings))


def test_of_other_vendors_the_settings_are_taken_as_they_are() -> None:
    assert where("oracle", {"NAME": "a", "HOST": None, "PORT": 1}) == Where("a", "", "1")
    assert where("sqlite", {"NAME": Path("/srv/a")}) == Where("/srv/a", "", "")
    assert access("oracle", {"HOST": "h", "USER": "u", "PASSWORD": "p"}) == Access(
        "h", "", "u", "p", {}
    )
