"""Claims about `security.guards`: production is refused, innocent projects are not bothered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dct_celery.errors import ConfigError
from dct_celery.security.guards import (
    Configured,
    check,
    hosts_to_resolve,
    looks_like_production,
    refuse_address,
)

SHOP = Configured(
    alias="default",
    vendor="postgresql",
    name="shop",
    test_name="test_shop",
    test=False,
    host="db.example",
    port="",
    used=True,
)
#: As a build machine called build-1 might see them.
ADDRESSES = {
    "localhost": {"127.0.0.1", "::1"},
    "127.1": {"127.0.0.1", "::1"},
    "build-1": {"192.168.0.9", "127.0.0.1", "::1"},
    "db.example": {"10.0.0.5"},
    "prod.example": {"10.0.0.5", "fd00::5"},
    "10.0.0.5": {"10.0.0.5"},
    "fd00::5": {"fd00::5"},
    "other.example": {"10.0.0.6"},
    "nowhere": set(),
}
MEMORY = "file:memorydb_default?mode=memory&cache=shared"
FILE = replace(SHOP, vendor="sqlite", name="/srv/shop.sqlite3", test_name=MEMORY, host="")


def warnings_of(
    *configured: Configured, facts: dict[str, str] | None = None, **lists: Any
) -> list[str]:
    return check(
        configured,
        facts=facts or {},
        **{"allow": (), "deny": (), "deny_hosts": (), "addresses": {}, **lists},
    )


def refusal(*configured: Configured, facts: dict[str, str] | None = None, **lists: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        warnings_of(*configured, facts=facts, **lists)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestTestName:
    @pytest.mark.parametrize(
        "one",
        [
            replace(SHOP, test_name="shop"),
            replace(SHOP, vendor="mysql", test_name="SHOP"),
            replace(SHOP, name="x" * 70, test_name="x" * 63 + "_test"),
            replace(SHOP, used=False, test_name="shop"),
            replace(FILE, test_name="/srv/../srv/shop.sqlite3"),
        ],
    )
    def test_a_test_database_that_is_the_configured_one_is_refused(self, one: Configured) -> None:
        assert refusal(one).startswith(
            f"database 'default': its test database {one.test_name!r} is its own NAME"
        )

    @pytest.mark.parametrize(("host", "port"), [("db.example", "5432"), ("DB.example", "")])
    def test_the_database_of_an_unused_alias_on_the_same_server_counts(
        self, host: str, port: str
    ) -> None:
        # Given
        other = replace(
            SHOP,
            alias="crm",
            name="test_shop",
            test_name="test_test_shop",
            host=host,
            port=port,
            used=False,
        )

        # Then
        assert "is the NAME of 'crm' on db.example:5432" in refusal(SHOP, other)

    @pytest.mark.parametrize(
        "change", [{"host": "other.example"}, {"port": "5433"}, {"vendor": "mysql"}]
    )
    def test_on_another_server_an_equal_name_is_another_database(
        self, change: dict[str, Any]
    ) -> None:
        assert (
            warnings_of(
                SHOP,
                replace(SHOP, alias="crm", name="test_shop", test_name="test_test_shop", **change),
            )
            == []
        )

    def test_each_name_of_this_host_is_the_same_server(self) -> None:
        # Given
        here, there = (
            replace(SHOP, host=""),
            replace(SHOP, alias="crm", name="test_shop", test_name="", host="127.0.0.1"),
        )

        # Then
        assert "is the NAME of 'crm' on localhost:5432" in refusal(here, there)

    @pytest.mark.parametrize("name", [":memory:", MEMORY])
    def test_a_database_in_memory_is_never_refused(self, name: str) -> None:
        assert (
            warnings_of(replace(FILE, name=name, test_name=name), deny=("*",), deny_hosts=("*",))
            == []
        )

    def test_two_aliases_of_one_database_may_share_their_test_database(self) -> None:
        assert warnings_of(SHOP, replace(SHOP, alias="replica")) == []


class TestProduction:
    @pytest.mark.parametrize(
        "name",
        [
            "prod_shop", "shop_prod", "prod", "Shop-PROD", "shop.production", "production",
            "shop_production_2", "prod1", "shopProduction", "live_shop", "shop_live", "live",
            "staging_shop", "shop-staging", "shop_stage", "prd-shop", "shop_staging_eu",
            "tests_prod", "preprod", "eu_prod_shop", "test_production", "staging_area", "shopprod",
            "prodshop", "shop-uat", "uat", "UAT2", "shopproduction", "shopstaging", "shopprd",
            "crm_proddb", "acmestg", "production_line",
        ],
    )  # fmt: skip
    def test_a_name_with_a_word_for_production_looks_like_it(self, name: str) -> None:
        assert looks_like_production(name).startswith("the word ")
        assert "looks like production" in refusal(
            replace(SHOP, name=name, test_name=f"test_{name}")
        )

    @pytest.mark.parametrize(
        "name",
        [
            "shop", "livestock", "product_catalogue", "products", "delivery", "olive",
            "productivity", "deliver_live_chat_eu", "reproduction", "stagecoach", "stage_plays",
            "master_data", "main", "main_shop", "staging_area_tests", "prod_dev",
            "production_local", "prod_test", "alive", "", "_", "schedule", "producer_main",
            "prodigy", "products_de", "productline", "nonprod", "shop_nonprod", "squat", "equator",
            "backstage", "coproduction", "upstaging", "shoplive", "shopprod_dev", "uat_test",
        ],
    )  # fmt: skip
    def test_an_innocent_name_does_not(self, name: str) -> None:
        assert looks_like_production(name) == ""
        assert warnings_of(replace(SHOP, name=name, test_name=f"test_{name}")) == []

    def test_the_refusal_names_alias_rule_and_way_out(self) -> None:
        assert (
            refusal(replace(SHOP, name="prod_shop"))
            == "database 'default': NAME 'prod_shop' looks like production (the word 'prod'); use"
            " another NAME in the settings that tests use, or pass --allow-database prod_shop if"
            " it is not production"
        )

    def test_the_way_out_works_by_glob(self) -> None:
        assert warnings_of(replace(SHOP, name="prod_shop"), allow=("PROD_*",)) == []
        assert "looks like" in refusal(replace(SHOP, name="prod_shop"), allow=("prod",))

    def test_a_denied_name_is_refused_whatever_it_looks_like_and_whatever_is_allowed(self) -> None:
        # When
        message = refusal(SHOP, deny=("Sho*",), allow=("*",))

        # Then
        assert "(--deny-database Sho*)" in message
        assert "remove it from --deny-database" in message

    def test_of_an_sqlite_file_its_own_name_counts_and_not_its_folder(self) -> None:
        assert warnings_of(replace(FILE, name="/srv/prod/live/shop.sqlite3")) == []
        assert "pass --allow-database shop_prod if" in refusal(
            replace(FILE, name="/srv/shop_prod.sqlite3")
        )
        assert warnings_of(replace(FILE, name="/srv/shop_prod.sqlite3"), allow=("shop_prod",)) == []

    def test_an_unused_alias_elsewhere_may_be_production(self) -> None:
        assert (
            warnings_of(
                SHOP,
                replace(
                    SHOP, alias="live", name="prod_shop", test_name="", host="other", used=False
                ),
            )
            == []
        )


class TestNeighbour:
    LEGACY = replace(
        SHOP, alias="legacy", name="prod_shop", test_name="test_prod_shop", port="5432", used=False
    )

    def test_a_database_on_productions_server_is_refused(self) -> None:
        assert (
            refusal(SHOP, self.LEGACY)
            == "database 'default' has no TEST settings and shares the server db.example:5432 with"
            " 'legacy', of which NAME 'prod_shop' looks like production (the word 'prod'); point"
            " HOST of 'default' at a test server in the settings that tests use, or pass"
            " --allow-database prod_shop if it is not production"
        )
        assert refusal(replace(SHOP, test=True), self.LEGACY).startswith(
            "database 'default' shares the server"
        )

    def test_what_is_allowed_is_no_production(self) -> None:
        assert warnings_of(SHOP, self.LEGACY, allow=("prod_shop",)) == []

    def test_files_have_no_server_to_share(self) -> None:
        assert (
            warnings_of(FILE, replace(FILE, alias="live", name="/srv/prod.sqlite3", used=False))
            == []
        )


class TestSurroundings:
    @pytest.mark.parametrize(
        "variable",
        ["DJANGO_ENV", "ENVIRONMENT", "APP_ENV", "ENV", "DEPLOY_ENV", "DJANGO_ENVIRONMENT"],
    )
    @pytest.mark.parametrize(
        "value",
        ["production", "PROD", "live", "staging", "prod-eu", "eu_production", "uat", "stage"],
    )
    def test_a_production_environment_is_refused(self, variable: str, value: str) -> None:
        assert refusal(SHOP, facts={variable: f" {value} "}).startswith(
            f"{variable} is {value!r}: "
        )

    @pytest.mark.parametrize(
        "value",
        ["", "test", "ci", "development", "prod-test", "product-team", "local", "/etc/profile"],
    )
    def test_any_other_environment_is_fine(self, value: str) -> None:
        assert warnings_of(SHOP, facts={"DJANGO_ENV": value, "ENVIRONMENT": value}) == []

    @pytest.mark.parametrize(
        "module", ["shop.settings.production", "production", "shop.settings_prod", "conf.live"]
    )
    def test_a_settings_module_for_production_is_refused(self, module: str) -> None:
        assert refusal(SHOP, facts={"settings": module}).startswith(
            f"the settings module {module!r} is for production"
        )

    @pytest.mark.parametrize(
        "module",
        ["", "prod_shop.settings", "shop.settings.test", "settings_prod_test", "live.conf.base"],
    )
    def test_other_settings_modules_are_fine(self, module: str) -> None:
        assert warnings_of(SHOP, facts={"settings": module}) == []

    @pytest.mark.parametrize(
        ("host", "pattern"),
        [
            ("db.example", "*.example"),
            ("DB.example", "db.EXAMPLE"),
            ("db.example", "db.example:5432"),
            ("", "localhost"),
            ("a,db.example", "db.*"),
        ],
    )
    def test_a_denied_host_is_refused(self, host: str, pattern: str) -> None:
        assert f"is denied by --deny-db-host {pattern};" in refusal(
            replace(SHOP, host=host), deny_hosts=("x", pattern)
        )

    @pytest.mark.parametrize(
        ("host", "pattern"),
        [
            ("127.1", "localhost"),
            ("127.1", "127.0.0.1"),
            ("db.example", "prod.example"),
            ("db.example", "10.0.0.5"),
            ("db.example", "10.0.*"),
            ("db.example", "prod.example:5432"),
            ("10.0.0.5", "prod.example"),
            ("", "build-1"),
            ("localhost", "build-1"),
            ("/var/run/postgresql", "localhost"),
            ("/tmp", "build-1"),
            ("a,db.example", "prod.example"),
            ("fd00::5", "prod.example"),
            ("db.example", "[10.0.0.5]:5432"),
            ("@abstract", "127.0.0.1"),
        ],
    )
    def test_a_denied_server_is_refused_under_each_of_its_names(
        self, host: str, pattern: str
    ) -> None:
        assert f"is denied by --deny-db-host {pattern};" in refusal(
            replace(SHOP, host=host), deny_hosts=("x", pattern), addresses=ADDRESSES
        )

    def test_the_refusal_names_the_denied_host(self) -> None:
        assert (
            "HOST 'db.example', which is 10.0.0.5, is denied by --deny-db-host prod.example; "
            in refusal(SHOP, deny_hosts=("prod.example",), addresses=ADDRESSES)
        )

    @pytest.mark.parametrize(
        ("host", "pattern"),
        [
            ("other.example", "prod.example"),
            ("db.example", "prod.example:5433"),
            ("db.example", "localhost"),
            ("", "prod.example"),
            ("unknown", "nowhere"),
            ("unknown", "prod.example"),
        ],
    )
    def test_another_server_is_not(self, host: str, pattern: str) -> None:
        assert (
            warnings_of(replace(SHOP, host=host), deny_hosts=(pattern,), addresses=ADDRESSES) == []
        )

    def test_only_what_can_matter_is_resolved(self) -> None:
        # Given
        unused, file = replace(SHOP, host="unused", used=False), replace(FILE, host="file")

        # Then
        assert hosts_to_resolve([SHOP, unused, file], ()) == set()
        found = hosts_to_resolve(
            [replace(SHOP, host="a,/tmp"), unused, file],
            ("b:5432", "*.c", "fd00::5", "[fd00::6]:1"),
        )
        assert found == {"a", "b", "fd00::5", "fd00::6", "localhost"}

    @pytest.mark.parametrize(
        ("seen", "denied"),
        [
            (["10.0.0.5"], True),
            (["10.0.0.7", "10.0.0.5"], True),
            (["10.0.0.7", "db-1"], False),
            (["127.0.0.1"], False),
            ([], False),
        ],
    )
    def test_a_server_is_refused_by_the_address_that_its_connection_has(
        self, seen: list[str], denied: bool
    ) -> None:
        # When
        try:
            refuse_address(
                "default", "postgresql", iter(seen), "", ("prod.example:5432", "db-2"), ADDRESSES
            )
            message = ""
        except ConfigError as error:
            message = str(error)

        # Then
        assert (
            "its server has the address '10.0.0.5', which is denied by --deny-db-host"
            " prod.example:5432" in message
        ) is denied

    def test_no_addresses_are_resolved_where_nothing_is_denied(self) -> None:
        def asked() -> Iterator[str]:
            raise AssertionError("asked")
            yield ""

        refuse_address("default", "postgresql", asked(), "", (), {})

    def test_a_database_that_options_pin_is_refused(self) -> None:
        assert (
            refusal(replace(SHOP, pinned_by="OPTIONS['dbname']"))
            == "database 'default': OPTIONS['dbname'] names the database 'shop' whatever NAME says,"
            " so tests would run there; move it to NAME"
        )
        assert warnings_of(replace(SHOP, pinned_by="OPTIONS['dbname']", used=False)) == []

    def test_other_hosts_files_and_unused_aliases_are_not(self) -> None:
        assert warnings_of(SHOP, deny_hosts=("db", "db.example:5433", "localhost")) == []
        assert warnings_of(FILE, deny_hosts=("*",)) == []
        assert warnings_of(replace(SHOP, used=False), deny_hosts=("*",)) == []

    def test_debug_is_warned_about(self) -> None:
        assert [line.partition(" ")[0] for line in warnings_of(SHOP, facts={"debug": "true"})] == [
            "DEBUG"
        ]
        assert warnings_of(SHOP, facts={"debug": "false"}) == []

    def test_a_test_name_of_another_kind_is_explained(self) -> None:
        assert warnings_of(replace(SHOP, test_name="shop_testing", test=True)) == [
            "database 'default': its TEST NAME 'shop_testing' is not used; the databases of dct"
            " have names of their own, all of which begin with test_"
        ]
        assert warnings_of(replace(SHOP, test_name="shop_testing", used=False)) == []
        assert warnings_of(replace(FILE, test_name="/srv/test_shop.sqlite3")) == []

    def test_a_project_without_databases_is_fine(self) -> None:
        dummy = replace(SHOP, vendor="unknown", name="", test_name="", host="")
        assert warnings_of() == []
        assert warnings_of(dummy, replace(dummy, alias="other")) == []


NAMES = st.text("abcprodlive_-.\n'\x00é", max_size=80)


VENDORS = st.sampled_from(["postgresql", "mysql", "sqlite", "x"])
ANY = {**dict.fromkeys(("alias", "name", "test_name", "host", "port"), NAMES), "vendor": VENDORS}


@given(st.builds(Configured, **ANY, test=st.booleans(), used=st.booleans()))
def test_whatever_is_configured_is_warned_about_or_refused_in_one_line(one: Configured) -> None:
    # Then: it survives the wire, and nothing but ConfigError is raised
    assert Configured.from_dict(asdict(one)) == one
    try:
        lines = warnings_of(one, facts={"debug": "true"})
    except ConfigError as error:
        lines = [str(error)]
    assert all(line.isprintable() for line in lines)
