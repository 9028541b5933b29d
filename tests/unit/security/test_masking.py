"""Claims about `security.masking`: no secret gets out, and nothing else is lost.

Secrets are found by value and by their surroundings.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dct_celery.security import masking
from dct_celery.security.masking import COMMON, Masker, is_secret, mask_patterns, names_secret

SECRETS = st.text(st.characters(exclude_categories=["C"]), min_size=8, max_size=40).filter(
    lambda text: is_secret(text.strip())
)
AROUND = st.text(st.sampled_from("ab*'\" =:/@%&\n\\{[]},;\x1b#"), max_size=40) | st.text(
    max_size=40
)


class TestValues:
    def test_a_text_that_was_seen_before_its_secret_was_known_is_masked_afterwards(self) -> None:
        # Given
        mask = Masker()
        assert mask("login with correct-horse") == "login with correct-horse"

        # When
        mask.learn(["correct-horse"])

        # Then
        assert mask("login with correct-horse") == "login with **"

    @given(st.lists(SECRETS, min_size=1, max_size=4), st.data())
    def test_no_secret_of_eight_characters_survives_whatever_surrounds_it(
        self, secrets: list[str], data: st.DataObject
    ) -> None:
        # Given
        secrets = [secret.strip() for secret in secrets if len(secret.strip()) >= 8]
        assume(secrets)
        parts = data.draw(st.lists(AROUND | st.sampled_from(secrets), max_size=8))
        text = "".join([*parts, secrets[0], data.draw(AROUND)])
        mask = Masker(secrets)

        # Then
        for masked in (mask(text), mask.values(text), mask.output(text)):
            assert not [secret for secret in secrets if secret in masked]

    @given(SECRETS.map(str.strip).filter(lambda text: len(text) >= 8))
    def test_it_is_found_as_urls_json_and_python_spell_it(self, secret: str) -> None:
        mask = Masker([secret])
        for form in (
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            json.dumps(secret),
            repr(secret),
        ):
            assert form[1:-1] not in mask(f"<{form}>") or len(form) < 5
            assert form not in mask.values(f"<{form}>")

    def test_the_decoded_form_of_a_secret_in_a_url_is_masked(self) -> None:
        assert (
            Masker(["p%40ss%2Fw%C3%B6rd"]).values("login p@ss/wörd p%40ss%2fw%c3%b6rd")
            == "login ** **"
        )

    @given(st.text(), st.lists(SECRETS, max_size=3))
    def test_masking_twice_is_masking_once(self, text: str, secrets: list[str]) -> None:
        mask = Masker(secrets)
        assert mask(mask(text)) == mask(text)

    @pytest.mark.parametrize(
        "value",
        ["", "ci", "abc", "1234567", "**", "*" * 20, *sorted(COMMON)[:3], "Postgres", "TEST"],
    )
    def test_what_is_short_or_common_is_masked_by_its_place_alone(self, value: str) -> None:
        # Given
        text = f"ci abc 1234567 Postgres TEST admin {value}"

        # Then
        assert Masker([value]).values(text) == text
        assert Masker([value])("password=ci") == "password=**"

    def test_a_value_of_four_to_seven_characters_is_masked_where_it_stands_alone(self) -> None:
        assert (
            Masker(["shop"]).values("shop.tests workshop 'shop' shop_a")
            == "**.tests workshop '**' shop_a"
        )

    def test_the_longest_secret_goes_as_a_whole(self) -> None:
        assert (
            Masker(["correct-horse", "correct-horse-battery"]).values("correct-horse-battery")
            == "**"
        )

    def test_a_mask_that_completes_another_secret_is_no_way_out(self) -> None:
        assert "left**right" not in Masker(["hunter-22", "left**right"]).values(
            "lefthunter-22right"
        )

    def test_each_line_of_a_private_key_is_a_secret(self) -> None:
        # Given
        key = (
            "-----BEGIN PRIVATE"
            " KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQE\nFAASCBKcwggSjAgEAAoIBAQ\n-----END PRIVATE"
            " KEY-----"
        )

        # Then
        assert "MIIE" not in Masker([key]).values(f"indented\n    {key.splitlines()[1]}\n")

    def test_what_is_learnt_later_counts_as_well(self) -> None:
        mask = Masker(["hunter-22"])
        mask.learn(["correct-horse"])
        assert mask.values("hunter-22 correct-horse") == "** **"

    def test_an_output_keeps_what_only_looks_like_a_secret_but_no_password_of_a_url(self) -> None:
        mask = Masker(["hunter-22"])
        assert (
            mask.output("{'password': 'too short'} hunter-22 redis://:pw@h")
            == "{'password': 'too short'} ** redis://:**@h"
        )

    @pytest.mark.parametrize("part", ["hunter-22", "hunter", "words and words ", "shop ", "shop"])
    def test_a_huge_text_is_no_trap(self, part: str) -> None:
        assert Masker(["hunter-22", "shop"]).values(part * 200_000)

    def test_protocol_values_stay_whatever_the_password_is(self) -> None:
        # Given
        record = {
            "kind": "TestFinished",
            "outcome": "skipped",
            "failures": [{"text": "TestFinished skipped", "line": 3}],
        }

        # Then
        assert Masker(["TestFinished", "skipped"]).texts(record) == {
            **record,
            "failures": [{"text": "** **", "line": 3}],
        }


class TestSources:
    @pytest.mark.parametrize(
        "name",
        [
            "DB_PASSWORD",
            "PGPASSWORD",
            "STRIPE_API_KEYS",
            "SECRET_KEY",
            "github-token",
            "AWS_CREDENTIALS",
            "DB_PWD",
        ],
    )
    def test_a_variable_that_is_named_like_a_secret_is_one(self, name: str) -> None:
        assert names_secret(name)

    @pytest.mark.parametrize(
        "name",
        ["PWD", "OLDPWD", "KEYBOARD", "SSH_KEY_FILE", "MONKEY", "TOKENIZERS", "KEY_NAME", ""],
    )
    def test_any_other_variable_is_none(self, name: str) -> None:
        assert not names_secret(name)

    def test_the_environment_gives_values_of_secret_names_and_passwords_of_urls(self) -> None:
        # Given
        environ = {
            "API_TOKEN": "t-1",
            "HOME": "/root",
            "DATABASE_URL": "postgres://u:p%20w@h/db?x=1",
            "CACHE_KEY_URL": "redis://:a/b@h",
        }

        # Then
        assert set(masking.secrets_of_environment(environ)) == {"t-1", "p%20w", "a/b"}

    @pytest.mark.parametrize(
        "url", ["redis://:a/b#c?d@h", "redis://u:12/34@h", "redis://u:p w@h", "redis://u:a@b@h/0"]
    )
    def test_the_whole_password_is_known_however_carelessly_it_was_pasted(self, url: str) -> None:
        secret = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
        assert secret in set(masking.secrets_of_url(url))

    def test_a_password_that_everybody_can_read_off_the_settings_is_none(self) -> None:
        # Given
        rows: list[dict[str, Any]] = [
            {"user": "bookshop", "password": "bookshop"},
            {"user": "a", "password": "hush"},
            {"host": "postgres://u:pw@h"},
            {"user": "b", "options": {"sslpassword": "tls-1", "passwd": "b", "sslmode": "require"}},
            {},
        ]

        # Then
        known = [secret for secret in masking.secrets_of_databases(rows) if secret]
        assert known == ["hush", "pw", "tls-1"]


class TestLogging:
    def test_messages_arguments_and_tracebacks_are_masked_for_every_handler(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given
        monkeypatch.setattr(masking, "PROCESS", Masker(["correct-horse"]))
        formatter = logging.Formatter("%(message)s")

        # When
        try:
            raise ConnectionError("correct-horse at redis://:pw@h")
        except ConnectionError as error:
            about = (type(error), error, error.__traceback__)
        record = masking.MaskedRecord(
            "x", logging.ERROR, "f", 1, "no %s\n::error::x\x1b", ("correct-horse",), about
        )
        said = formatter.format(record)

        # Then
        assert "correct-horse" not in said
        assert "redis://:**@h" in said
        assert said.startswith("no **\n\\x3a:error::x\\x1b\nTraceback")


PARTS = [
    "password",
    "key",
    "=",
    ":",
    " ",
    "'",
    '"',
    "\\",
    "hush",
    "\n",
    "://",
    "@",
    "-p",
    "mysql ",
    ",",
    "&",
    "**",
    "- ",
]


class TestPatterns:
    @pytest.mark.parametrize(
        "text",
        [
            "connection to host=db password=hush user=a failed",
            "host=db password='hush hush \\' hush' user=a",
            "PGPASSWORD=hush psql",
            "postgres://shop:hush@db/x",
            "{'USER': 'a', 'PASSWORD': 'hush', 'HOST': 'b'}",
            '{"user": "a", "db_password": "hush", "x": 1}',
            '{\\"token\\": \\"hush\\", \\"x\\": 1}',
            "SECRET_KEY = 'hush'",
            "settings.SECRET_KEY='django-hush-(=$%'",
            "STRIPE_API_TOKEN=hush,x=1",
            "apiKey: 'hush'",
            "services:\n  db:\n    password: hush hush\n    user: a",
            "ALTER ROLE a PASSWORD 'hush'",
            "CREATE USER a IDENTIFIED BY 'hush'",
            "mysqldump -u root -phush shop",
            "mysql --password=hush shop",
            "AWS_SECRET_ACCESS_KEY=hush/hush+hush",
            "password=hush]]>%hush",
            "passwd=b'hush'",
        ],
    )
    def test_no_secret_is_shown(self, text: str) -> None:
        assert "hush" not in mask_patterns(text)
        assert "**" in mask_patterns(text)

    @pytest.mark.parametrize(
        "text",
        [
            "KeyError: 'name'",
            "FAILED: 12 passed, 3 failed; passed=12",
            "refuses the password: check user and password in its URL",
            "Key (email)=(a@example.org) already exists.",
            "id = AutoField(primary_key=True)",
            "monkey='banana' keyword=3 compass: 'north'",
            "PASSWORD_HASHERS = ['django.contrib.auth.hashers.MD5PasswordHasher']",
            "",
        ],
    )
    def test_what_is_no_secret_stays_as_it_is(self, text: str) -> None:
        assert mask_patterns(text) == text

    def test_what_stands_around_a_secret_stays(self) -> None:
        assert mask_patterns("host=db password=hush user=a") == "host=db password=** user=a"
        assert (
            mask_patterns("{'PASSWORD': 'hush', 'HOST': 'b'}") == "{'PASSWORD': '**', 'HOST': 'b'}"
        )
        assert mask_patterns('connect("password=hush")') == 'connect("password=**")'

    @given(st.lists(st.sampled_from(PARTS)).map("".join))
    def test_masking_patterns_twice_is_masking_them_once(self, text: str) -> None:
        once = mask_patterns(text)
        assert mask_patterns(once) == once

    @pytest.mark.parametrize(
        "part", ["password", "key=", "'", "a" * 9, "mysql ", "\\", "key='", "- ", "://a:"]
    )
    def test_a_huge_text_is_no_trap(self, part: str) -> None:
        # Then: the time limit of the test is what it claims; quadratic would be minutes
        assert mask_patterns(part * 20_000)


def test_a_password_that_is_the_name_of_the_project_too_is_no_secret() -> None:
    # Given what the file for Docker Compose of many a project says
    environ = {
        "POSTGRES_USER": "webshop1", "POSTGRES_DB": "webshop1", "POSTGRES_PASSWORD": "webshop1",
        "SMTP_PASSWORD": "hunter22",
    }  # fmt: skip

    # Then
    assert list(masking.secrets_of_environment(environ)) == ["hunter22"]
