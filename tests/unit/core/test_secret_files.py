"""Files that look like secrets are named, others are not."""

from __future__ import annotations

import pytest

from dct_celery.core import secret_files


@pytest.mark.parametrize(
    "path",
    [
        ".env", "shop/.env.production", ".ENV", "id_rsa", ".ssh/id_ed25519", ".aws/credentials",
        "home/.aws/credentials", ".netrc", ".pgpass", "db.sqlite3", "backup/shop.dump", "dump.sql",
        "credentials.json", "keys/team.kdbx", "client_secret_12.json",
    ],
)  # fmt: skip
def test_a_secret_is_known_by_its_name(path: str) -> None:
    assert secret_files.looks_secret(path)


@pytest.mark.parametrize(
    "path",
    [
        ".env.example",
        ".env.sample",
        "environment.py",
        "id_rsa.py",
        "credentials.py",
        "docs/credentials",
        "id_rsa.pub",
        "x.sql",
    ],
)
def test_code_and_examples_are_none(path: str) -> None:
    assert not secret_files.looks_secret(path)


def test_of_certificates_and_keys_the_content_decides() -> None:
    assert secret_files.may_be_key("tls/server.PEM")
    assert secret_files.is_private_key(b"-----BEGIN RSA PRIVATE KEY-----\n")
    assert not secret_files.is_private_key(b"-----BEGIN CERTIFICATE-----\n")


def test_the_warning_is_one_line_with_a_few_names() -> None:
    line = secret_files.warning([f"{number}/.env" for number in range(9)])
    assert line.startswith("0/.env, 1/.env, 2/.env, 3/.env, 4/.env and 4 more look like secrets")
    assert "\n" not in line
    assert "exclude" in line
    assert "include" in line
    assert secret_files.warning([]) == ""
    assert secret_files.warning([".env"]).startswith(".env looks like secrets")
