"""Claims about `security.variables`: a variable has its type, or is refused in one line."""

from __future__ import annotations

import pytest

from dct_celery.errors import ConfigError
from dct_celery.security import (
    ENV_VARS,
    get_env_bool,
    get_env_float,
    get_env_int,
    get_env_str,
    get_env_var,
)

NAME = "SHOP_OPTION"


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("on", bool, True),
        ("No", bool, False),
        ("-3", int, -3),
        ("1.5", float, 1.5),
        ("2", float, 2.0),
        ("x y", str, "x y"),
    ],
)
def test_a_variable_has_its_type(
    text: str, type_: type, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, text)
    found = get_env_var(NAME, None, type_)
    assert (found, type(found)) == (value, type_)


@pytest.mark.parametrize("text", [None, ""])
def test_without_value_it_is_the_default(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        monkeypatch.setenv(NAME, text)
    assert (get_env_int(NAME, 4), get_env_bool(NAME, True), get_env_float(NAME)) == (4, True, 0.0)
    assert (get_env_str(NAME), get_env_var(NAME)) == ("", None)


@pytest.mark.parametrize(
    ("text", "type_", "expected"),
    [
        ("many", int, "a whole number"),
        ("maybe", bool, "true or false"),
        ("nan", float, "a number"),
        ("inf", float, "a number"),
    ],
)
def test_any_other_text_is_refused_by_name(
    text: str, type_: type, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, text)
    with pytest.raises(ConfigError) as caught:
        get_env_var(NAME, 1, type_)
    assert str(caught.value).startswith(f"{NAME}: ")
    assert str(caught.value).endswith(f" is not valid; give {expected}, or unset it")


def test_a_secret_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    with pytest.raises(ConfigError) as caught:
        get_env_int("SHOP_PASSWORD")
    assert "hunter2" not in str(caught.value)


def test_a_type_that_no_text_has_is_refused() -> None:
    with pytest.raises(TypeError, match="give str, bool, int or float"):
        get_env_var(NAME, None, list)


def test_the_old_names_of_variables_are_there() -> None:
    assert ENV_VARS["WORKER_COUNT"] == "DJANGO_TEST_WORKERS"
    assert set(ENV_VARS) == {
        "ENABLE_CONCURRENT", "WORKER_COUNT", "TIMEOUT", "BENCHMARK", "TELEMETRY", "DEBUG",
        "DATABASE_URL", "SECRET_KEY",
    }  # fmt: skip
