"""Claims about `testproc.django.targets`.

Where a connection leads is read in each place that the client library reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dct_celery.testproc.django.targets import Where, where

_VARIABLES = (
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


def test_of_other_vendors_the_settings_are_taken_as_they_are() -> None:
    assert where("oracle", {"NAME": "a", "HOST": None, "PORT": 1}) == Where("a", "", "1")
    assert where("sqlite", {"NAME": Path("/srv/a")}) == Where("/srv/a", "", "")
