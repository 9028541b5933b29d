"""Claims about `settings`: which source wins, what is refused, and what a refusal says.

It names the place of the error and the fix.
"""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dct_celery import api
from dct_celery.core.option import Option, accept
from dct_celery.errors import ConfigError
from dct_celery.security import masking
from dct_celery.settings import DEFAULT_STORE, OPTIONS, PRINTED, Settings, load, warnings_of

KEY, OTHER = "k1" * 16, "k2" * 20


def settings_of(cwd: Path, flags: dict[str, object] | None = None, **env: str) -> Settings:
    return load(flags or {}, env=env, cwd=cwd)[0]


def origins_of(cwd: Path, flags: dict[str, object] | None = None, **env: str) -> dict[str, str]:
    return load(flags or {}, env=env, cwd=cwd)[1]


def refusal(cwd: Path, flags: dict[str, object] | None = None, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, env=env, cwd=cwd)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_toml(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.dct]\n{text}\n")


class TestPrecedence:
    def test_flag_beats_variable_beats_file_beats_default(self, tmp_path: Path) -> None:
        # Given
        project = tmp_path / "project"
        project.mkdir()

        # Then
        assert settings_of(project).pool == "default"
        write_toml(project, 'pool = "file"')
        assert settings_of(project).pool == "file"
        assert settings_of(project, DCT_POOL="variable").pool == "variable"
        assert settings_of(project, {"pool": "flag"}, DCT_POOL="variable").pool == "flag"

    def test_every_origin_is_named(self, tmp_path: Path) -> None:
        # Given
        write_toml(tmp_path, "test_timeout = 5")

        # When
        origins = origins_of(tmp_path, {"pattern": "t*.py", "labels": ("app",)}, DCT_POOL="a")

        # Then
        assert origins["pattern"] == "--pattern"
        assert origins["pool"] == "DCT_POOL"
        assert origins["test_timeout"] == "[tool.dct] test_timeout in pyproject.toml"
        assert origins["code"] == "default"
        assert origins["broker"] == "same as store"
        assert origins["labels"] == "command line"
        assert set(origins) == {field.name for field in fields(Settings)}

    def test_an_empty_variable_and_a_none_flag_count_as_not_given(self, tmp_path: Path) -> None:
        assert settings_of(tmp_path, {"pool": None}, DCT_POOL="") == settings_of(tmp_path)

    def test_defaults_are_those_of_the_class(self, tmp_path: Path) -> None:
        assert settings_of(tmp_path) == Settings(project_dir=str(tmp_path))

    def test_one_label_may_be_a_text(self, tmp_path: Path) -> None:
        assert settings_of(tmp_path, {"labels": "shop.tests"}).labels == ("shop.tests",)
        assert settings_of(tmp_path, {"labels": ["a", "b"]}).labels == ("a", "b")

    def test_a_folder_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere is no folder; give that of the project$"):
            api.load(tmp_path / "nowhere")

    def test_the_nearest_file_with_a_table_counts(self, tmp_path: Path) -> None:
        # Given: outer with a table, inner without
        inner = tmp_path / "repo" / "src"
        inner.mkdir(parents=True)
        write_toml(tmp_path, 'pool = "outer"')
        (tmp_path / "repo" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")

        # When
        settings, origins = load({}, env={}, cwd=inner)

        # Then
        assert settings.pool == "outer"
        assert origins["pool"] == "[tool.dct] pool in ../../pyproject.toml"


class TestValues:
    def test_text_is_parsed_by_kind(self, tmp_path: Path) -> None:
        # When
        settings = settings_of(
            tmp_path,
            {"durations": "3", "tag": ("a", "b")},
            DCT_TEST_TIMEOUT="2.5",
            DCT_FAILFAST="Yes",
            DCT_REVERSE="off",
            DCT_ENV="AWS_*, HOME",
        )

        # Then
        assert (settings.durations, settings.tag, settings.test_timeout) == (3, ("a", "b"), 2.5)
        assert (settings.failfast, settings.reverse, settings.env) == (
            True,
            False,
            ("AWS_*", "HOME"),
        )

    def test_toml_values_have_their_own_types(self, tmp_path: Path) -> None:
        # Given
        write_toml(
            tmp_path, 'tag = ["a"]\nqueue-timeout = 5\nbuffer = true\nmaxfail = 2\nsettings = "a.b"'
        )

        # When
        settings = settings_of(tmp_path)

        # Then
        assert (settings.tag, settings.buffer, settings.maxfail, settings.settings) == (
            ("a",),
            True,
            2,
            "a.b",
        )
        assert isinstance(settings.queue_timeout, float)

    @pytest.mark.parametrize(
        ("text", "shuffle", "local"),
        [("auto", "auto", 0), ("on", "auto", 0), ("off", None, None), ("1", 1, 1), ("0", 0, 0)],
    )
    def test_an_optional_value_has_a_bare_form(
        self, tmp_path: Path, text: str, shuffle: Any, local: Any
    ) -> None:
        # When
        settings = settings_of(tmp_path, {"local": text}, DCT_SHUFFLE=text)

        # Then
        assert (settings.shuffle, settings.local) == (shuffle, local)

    @pytest.mark.parametrize(
        ("toml", "shuffle"), [("true", "auto"), ("false", None), ("7", 7), ('"auto"', "auto")]
    )
    def test_the_bare_form_in_toml_is_true(self, tmp_path: Path, toml: str, shuffle: Any) -> None:
        # Given
        write_toml(tmp_path, f"shuffle = {toml}")

        # Then
        assert settings_of(tmp_path).shuffle == shuffle

    @pytest.mark.parametrize(
        ("text", "printed", "file"),
        [
            ("True", "-", None),
            ("1", "-", None),
            ("auto", "-", None),
            ("off", None, None),
            ("out/b.json", "out/b.json", "out/b.json"),
            ("b.txt", "b.txt", "b.txt"),
        ],
    )
    def test_a_benchmark_is_printed_and_written_where_a_path_is_given(
        self, tmp_path: Path, text: str, printed: str | None, file: str | None
    ) -> None:
        # When
        settings = settings_of(tmp_path, DCT_BENCHMARK=text)

        # Then
        assert (settings.benchmark, settings.benchmark_file) == (printed, file)

    def test_what_is_on_is_switched_off_by_flag_variable_and_file(self, tmp_path: Path) -> None:
        # Given
        write_toml(tmp_path, "metrics = false")

        # Then
        assert not settings_of(tmp_path).metrics
        assert settings_of(tmp_path, DCT_METRICS="on").metrics
        assert not settings_of(tmp_path, {"metrics": False}, DCT_METRICS="on").metrics

    def test_paths_of_the_file_are_relative_to_the_file(self, tmp_path: Path) -> None:
        # Given
        project = tmp_path / "src"
        project.mkdir()
        write_toml(
            tmp_path,
            'junit-xml = "out/junit.xml"\npython = ".venv/bin/python"\nwork-dir = "/var/dct"',
        )

        # When
        settings = settings_of(project, {"json": "out.json"})

        # Then
        assert settings.junit_xml == "../out/junit.xml"
        assert settings.python == "../.venv/bin/python"
        assert (settings.work_dir, settings.json) == ("/var/dct", "out.json")

    def test_a_bare_program_is_left_to_the_search_path_and_home_is_found(
        self, tmp_path: Path
    ) -> None:
        # Given
        project = tmp_path / "src"
        project.mkdir()
        write_toml(tmp_path, 'python = "python3.12"\nwork-dir = "~/dct"')

        # When
        settings = settings_of(project, HOME="/home/me")

        # Then
        assert (settings.python, settings.work_dir) == ("python3.12", "/home/me/dct")

    def test_one_variable_names_the_interpreter_on_either_side(self, tmp_path: Path) -> None:
        # When
        settings = settings_of(tmp_path, DCT_PYTHON="/opt/python")

        # Then
        assert settings.python == settings.worker_python == "/opt/python"


class TestUrls:
    def test_the_broker_is_the_store_unless_given(self, tmp_path: Path) -> None:
        assert settings_of(tmp_path).broker == DEFAULT_STORE
        assert settings_of(tmp_path, DCT_STORE="rediss://h/1").broker == "rediss://h/1"
        assert (
            settings_of(tmp_path, {"broker": "amqp://h//"}, DCT_STORE="redis://h/1").broker
            == "amqp://h//"
        )

    @pytest.mark.parametrize(
        "url", ["unix://:pw@/run/r.sock?db=2", "redis+socket://:pw@/run/r.sock?virtual_host=2"]
    )
    def test_a_socket_is_spelled_as_each_library_wants_it(self, tmp_path: Path, url: str) -> None:
        # When
        settings = settings_of(tmp_path, {"store": url})

        # Then
        assert settings.store == "unix://:pw@/run/r.sock?db=2"
        assert settings.broker == "redis+socket://:pw@/run/r.sock?virtual_host=2"

    @pytest.mark.parametrize(
        "url",
        ["http://h", "localhost:6379", "amqp://h", "redis:h", "memory://", "sentinel://h:26379"],
    )
    def test_a_store_url_of_an_unknown_kind_is_refused(self, tmp_path: Path, url: str) -> None:
        assert "redis://, rediss://, unix://" in refusal(tmp_path, {"store": url})

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("redis://h:0", "does not name one host and port"),
            ("redis://h,g:1/0", "does not name one host and port"),
            ("unix://", "names no socket"),
            ("unix://run/r.sock", "names no socket"),
            ("redis://h/xyz", "has the database 'xyz', which is not a number"),
            ("redis://h/1?db=2", "names its database twice"),
            ("redis://h/-1", "has the database '-1', which is not a number"),
            ("redis://h?bogus=1", "has the parameter bogus, which is not known; leave it out"),
            ("redis://h?socket_timeout=abc", "has the parameter socket_timeout"),
            (
                "redis://h?ssl_ca_certs=/ca.pem",
                "has the parameter ssl_ca_certs, which needs TLS; write rediss://",
            ),
            ("rediss://h?ssl_cert_reqs=maybe", "has ssl_cert_reqs=maybe; write required, or none"),
            ("rediss://h?ssl_ca_certs=", "has the parameter ssl_ca_certs without a value"),
            ("rediss://h?ssl_keyfile=/k", "has ssl_keyfile without ssl_certfile"),
        ],
    )
    def test_a_store_url_that_cannot_work_is_refused_with_its_part(
        self, tmp_path: Path, url: str, reason: str
    ) -> None:
        # When
        message = refusal(tmp_path, {"store": url})

        # Then
        assert message.startswith(f"--store: '{url}' {reason}")

    @pytest.mark.parametrize(
        "url", ["amqp://h?bogus=1", "amqps://h?heartbeat=x", "amqp://h?ssl_ca_certs=x"]
    )
    def test_a_broker_url_is_read_as_strictly(self, tmp_path: Path, url: str) -> None:
        assert refusal(tmp_path, {"broker": url}).startswith(f"--broker: '{url}' ")

    @pytest.mark.parametrize(
        "url",
        [
            "redis://u:sec/ret@h/0",
            "redis://u:12/sec@ret@h",
            "redis://u:12?secret=@h",
            "redis://:se#cret@h",
            "redis://h:sec",
            "redis://[sec",
        ],
    )
    def test_a_password_that_is_not_quoted_is_not_shown(self, tmp_path: Path, url: str) -> None:
        # When
        message = refusal(tmp_path, {"store": url})

        # Then
        assert "write %23 for #" in message
        assert "sec" not in message
        assert "cret" not in message

    def test_a_broker_url_of_an_unknown_transport_is_refused(self, tmp_path: Path) -> None:
        # When
        message = refusal(tmp_path, DCT_BROKER="sqs://key:secret@h")

        # Then
        assert message.startswith(
            "DCT_BROKER: 'sqs://key:**@h' is not valid; give a URL that starts with redis://"
        )


class TestSecrets:
    def test_a_secret_may_be_a_file(self, tmp_path: Path) -> None:
        # Given
        (tmp_path / "key").write_text(f"  {KEY}\n")

        # When
        settings, origins = load({}, env={"DCT_SIGNING_KEY_FILE": "key"}, cwd=tmp_path)

        # Then
        assert (settings.signing_key, origins["signing_key"]) == (KEY, "DCT_SIGNING_KEY_FILE")

    @pytest.mark.parametrize("key", ["k" * 31, f"  {'k' * 31}\n", f"{KEY} short", "k " * 40])
    def test_a_short_key_is_refused_wherever_it_stands_and_not_shown(
        self, tmp_path: Path, key: str
    ) -> None:
        # Given
        (tmp_path / "key").write_text(key)
        write_toml(tmp_path, f"signing-key = {json.dumps(key)}")

        # Then
        for origin, refused in {
            "--signing-key": refusal(tmp_path, {"signing_key": key}),
            "DCT_SIGNING_KEY": refusal(tmp_path, DCT_SIGNING_KEY=key),
            "DCT_SIGNING_KEY_FILE": refusal(tmp_path, DCT_SIGNING_KEY_FILE="key"),
            "[tool.dct] signing-key in pyproject.toml": refusal(tmp_path),
        }.items():
            assert refused.startswith(
                f"{origin}: the value is not valid; give a key of at least 32 characters (dct"
                " keygen makes one)"
            )
            assert "kkk" not in refused

    def test_the_first_of_several_keys_signs_and_all_are_accepted(self, tmp_path: Path) -> None:
        # Given
        (tmp_path / "keys").write_text(f"{KEY}\n{OTHER}\n")

        # Then
        for settings in (
            settings_of(tmp_path, DCT_SIGNING_KEY_FILE="keys"),
            settings_of(tmp_path, {"signing_key": f"{KEY}  {OTHER}"}),
        ):
            assert (settings.own_key, settings.signing_keys) == (KEY, (KEY, OTHER))
        assert (settings_of(tmp_path).own_key, settings_of(tmp_path).signing_keys) == ("", ())

    def test_an_empty_secret_file_is_refused_with_the_fix(self, tmp_path: Path) -> None:
        # Given
        (tmp_path / "empty").write_text(" \n")

        # Then
        assert refusal(tmp_path, DCT_SIGNING_KEY_FILE="empty").endswith(
            "is empty; dct keygen makes a key"
        )
        assert refusal(tmp_path, DCT_STORE_FILE="empty").endswith("is empty; write the URL into it")

    def test_a_key_may_come_through_a_descriptor(self, tmp_path: Path) -> None:
        # Given: what a shell makes of <(command)
        reading, writing = os.pipe()
        os.write(writing, KEY.encode())
        os.close(writing)

        # Then
        try:
            file = f"/dev/fd/{reading}"
            settings = settings_of(tmp_path, DCT_SIGNING_KEY_FILE=file)
            assert settings.own_key == KEY
            assert warnings_of({"DCT_SIGNING_KEY_FILE": file}, tmp_path) == []
        finally:
            os.close(reading)

    @pytest.mark.parametrize(
        ("mode", "warned"), [(0o600, False), (0o400, False), (0o644, True), (0o440, True)]
    )
    def test_a_key_file_that_others_can_read_is_one_line(
        self, tmp_path: Path, mode: int, warned: bool
    ) -> None:
        # Given
        (tmp_path / "key").write_text(KEY)
        (tmp_path / "key").chmod(mode)

        # Then
        lines = warnings_of({"DCT_SIGNING_KEY_FILE": "key"}, tmp_path)
        expected = (
            f"DCT_SIGNING_KEY_FILE: others can read {tmp_path}/key (mode {mode:04o}); chmod 600"
            f" {tmp_path}/key"
        )
        assert lines == ([expected] if warned else [])

    def test_from_here_on_this_process_masks_what_it_was_given(self, tmp_path: Path) -> None:
        # Given
        (tmp_path / "key").write_text(KEY)

        # When
        settings_of(
            tmp_path,
            {"store": "redis://:st%40re-pw@h"},
            DCT_SIGNING_KEY_FILE="key",
            API_TOKEN="t0ken-of-an-api",
        )

        # Then
        assert (
            masking.PROCESS.values(f"{KEY} st@re-pw st%40re-pw t0ken-of-an-api default")
            == "** ** ** ** default"
        )

    @pytest.mark.parametrize("url", ["redis://u:12/34@h", "redis://:a?b@h", "redis://:1#b@h"])
    def test_an_unquoted_password_is_refused_with_the_way_to_quote_it(
        self, tmp_path: Path, url: str
    ) -> None:
        # When
        message = refusal(tmp_path, DCT_STORE=url)

        # Then
        assert "write %23 for #, %2F for /, %3A for :, %3F for ?, %40 for @" in message
        assert not any(part in message for part in ("12/34", "a?b", "1#b"))

    def test_a_missing_secret_file_is_refused(self, tmp_path: Path) -> None:
        # When
        message = refusal(tmp_path, DCT_BROKER_FILE="nowhere")

        # Then
        assert message.startswith("DCT_BROKER_FILE: cannot read ")
        assert "No such file" in message

    def test_a_secret_given_twice_is_refused(self, tmp_path: Path) -> None:
        assert "both set" in refusal(tmp_path, DCT_STORE="redis://h", DCT_STORE_FILE="f")

    def test_only_secrets_may_be_files(self, tmp_path: Path) -> None:
        assert "DCT_POOL_FILE: unknown variable" in refusal(tmp_path, DCT_POOL_FILE="f")

    def test_no_secret_is_in_the_text_of_the_settings(self, tmp_path: Path) -> None:
        # When
        settings = settings_of(
            tmp_path,
            {"signing_key": "hush" * 8, "store": "redis://:hush@h", "broker": "amqp://u:hush@h"},
        )

        # Then
        assert "hush" not in repr(settings)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("store", "u:hush@h"), ("env", ("TOKEN=hush",)), ("broker", "x://u:hush@h")],
    )
    def test_no_secret_is_in_a_refusal(self, tmp_path: Path, name: str, value: object) -> None:
        assert "hush" not in refusal(tmp_path, {name: value})


class TestDatabases:
    def test_lists_of_patterns_come_from_each_place(self, tmp_path: Path) -> None:
        # Given
        write_toml(
            tmp_path,
            "deny-db-host = ['*.prod.example', 'db1']\ntemplate_depends = ['fixtures/*.json']",
        )

        # When
        settings = settings_of(
            tmp_path, {"allow_database": ("prod_copy",)}, DCT_DENY_DATABASE="shop*, crm"
        )

        # Then
        assert settings.deny_db_host == ("*.prod.example", "db1")
        assert settings.template_depends == ("fixtures/*.json",)
        assert settings.allow_database == ("prod_copy",)
        assert settings.deny_database == ("shop*", "crm")

    def test_clean_clones_are_kept_where_it_pays_unless_the_settings_decide(
        self, tmp_path: Path
    ) -> None:
        assert settings_of(tmp_path).keep_databases == "auto"
        assert settings_of(tmp_path, DCT_KEEP_DATABASES="never").keep_databases == "never"
        assert "one of auto, always, never" in refusal(tmp_path, DCT_KEEP_DATABASES="sometimes")

    def test_templates_are_reused_unless_they_are_to_be_rebuilt(self, tmp_path: Path) -> None:
        assert not settings_of(tmp_path).create_db
        assert settings_of(tmp_path, {"create_db": True}).create_db

    def test_connections_are_recycled_by_the_known_variables(self, tmp_path: Path) -> None:
        # When
        settings = settings_of(
            tmp_path, DJANGO_TEST_MAX_OPERATIONS="7", DJANGO_TEST_HEALTH_CHECK_INTERVAL="3"
        )

        # Then
        assert (settings.max_operations, settings.health_check_seconds) == (7, 3.0)
        assert "DJANGO_TEST_MAX_OPERATIONS: '-1'" in refusal(
            tmp_path, DJANGO_TEST_MAX_OPERATIONS="-1"
        )

    @pytest.mark.parametrize("word", ["0", "none", "None", "0.0"])
    def test_a_limit_can_be_switched_off(self, tmp_path: Path, word: str) -> None:
        # When
        settings = settings_of(tmp_path, DCT_TEST_TIMEOUT=word, DCT_FIXTURE_TIMEOUT=word)

        # Then
        assert (settings.test_timeout, settings.fixture_timeout) == (0.0, 0.0)
        assert settings_of(tmp_path).test_timeout is None


class TestOtherNames:
    """Variables of django-concurrent-test."""

    @pytest.mark.parametrize(
        ("variable", "text", "name", "value"),
        [
            ("DJANGO_TEST_WORKERS", "4", "parallel", 4),
            ("DJANGO_TEST_WORKERS", "auto", "parallel", "auto"),
            ("DJANGO_TEST_TIMEOUT", "300", "timeout", 300.0),
            ("DJANGO_TEST_TIMEOUT_PER_TEST", "30", "test_timeout", 30.0),
            ("DJANGO_TEST_MAX_RETRIES", "5", "database_retries", 5),
            ("DJANGO_TEST_RETRY_DELAY", "0.5", "retry_delay", 0.5),
            ("DJANGO_TEST_DYNAMIC_SCALING", "False", "dynamic_scaling", False),
            ("DJANGO_TEST_MIN_WORKERS", "2", "min_slots", 2),
            ("DJANGO_TEST_MAX_WORKERS", "8", "max_slots", 8),
            ("DJANGO_TEST_TEMPLATE_CACHE", "False", "create_db", True),
            ("DJANGO_TEST_TEMPLATE_CACHE", "True", "create_db", False),
            ("DJANGO_ENABLE_CONCURRENT", "False", "sequential", True),
            ("DJANGO_ENABLE_CONCURRENT", "True", "sequential", False),
            ("DJANGO_TEST_BENCHMARK", "True", "benchmark", PRINTED),
            ("DJANGO_TEST_BENCHMARK", "False", "benchmark", None),
        ],
    )
    def test_a_variable_of_another_name_is_taken_and_named_as_the_origin(
        self, tmp_path: Path, variable: str, text: str, name: str, value: object
    ) -> None:
        # When
        settings, origins = load({}, env={variable: text}, cwd=tmp_path)
        # Then
        assert getattr(settings, name) == value
        assert origins[name] == variable

    def test_our_own_variable_and_a_flag_win_over_it(self, tmp_path: Path) -> None:
        # Given
        env = {"DCT_PARALLEL": "4", "DJANGO_TEST_WORKERS": "4"}
        # When
        by_variable = load({}, env=env, cwd=tmp_path)
        by_flag = load({"parallel": "2"}, env=env, cwd=tmp_path)
        # Then
        assert by_variable[1]["parallel"] == "DCT_PARALLEL"
        assert by_flag[0].parallel == 2

    def test_two_variables_of_one_setting_that_differ_are_refused(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, DCT_TEST_TIMEOUT="30", DJANGO_TEST_TIMEOUT_PER_TEST="60") == (
            "DCT_TEST_TIMEOUT='30' and DJANGO_TEST_TIMEOUT_PER_TEST='60' mean the same setting and"
            " differ; unset one of them"
        )
        assert "DJANGO_TEST_TEMPLATE_CACHE='True' mean the same" in refusal(
            tmp_path, DCT_CREATE_DB="1", DJANGO_TEST_TEMPLATE_CACHE="True"
        )

    def test_bounds_that_contradict_each_other_are_refused(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, DCT_MIN_SLOTS="5", DJANGO_TEST_MAX_WORKERS="2") == (
            "DCT_MIN_SLOTS: 5 is more than 2 (DJANGO_TEST_MAX_WORKERS); give one that is not"
        )

    def test_nonsense_names_the_variable(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, DJANGO_ENABLE_CONCURRENT="perhaps") == (
            "DJANGO_ENABLE_CONCURRENT: 'perhaps' is not valid; give true or false"
        )
        assert refusal(tmp_path, DJANGO_TEST_WORKERS="0").startswith("DJANGO_TEST_WORKERS: '0'")


class TestProject:
    """What the project's own settings say."""

    def test_it_counts_where_nothing_else_does(self, tmp_path: Path) -> None:
        # Given
        write_toml(tmp_path, "pool = 'ci'")
        project: dict[str, tuple[object, str]] = {
            "pool": ("nightly", "C['POOL']"),
            "timeout": (300, "C['TIMEOUT']"),
        }
        # When
        settings, origins = load({}, env={}, cwd=tmp_path, project=project)
        # Then
        assert (settings.pool, settings.timeout) == ("ci", 300.0)
        assert origins["timeout"] == "C['TIMEOUT']"

    def test_a_bad_value_names_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"^C\['TIMEOUT'\]: 'soon' is not valid; give a number"
        ):
            load({}, env={}, cwd=tmp_path, project={"timeout": ("soon", "C['TIMEOUT']")})


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "start", "fix"),
        [
            (
                {"test_timeout": "abc"},
                "--test-timeout: 'abc'",
                "a number of seconds, at least 0.1, or none",
            ),
            (
                {"test_timeout": "0.05"},
                "--test-timeout: '0.05'",
                "a number of seconds, at least 0.1, or none",
            ),
            ({"timeout": "none"}, "--timeout: 'none'", "a number of seconds, at least 0.1"),
            (
                {"reruns_budget": "101"},
                "--reruns-budget: '101'",
                "a percentage, at least 0, at most 100",
            ),
            ({"reruns": "-1"}, "--reruns: '-1'", "a whole number, at least 0"),
            ({"timeout": "nan"}, "--timeout: 'nan'", "a number of seconds"),
            ({"timeout": "inf"}, "--timeout: 'inf'", "a number of seconds"),
            ({"timeout": 10**400}, "--timeout: 1000", "a number of seconds"),
            ({"verbosity": "4"}, "--verbosity: '4'", "a whole number, at least 0, at most 3"),
            ({"maxfail": "0"}, "--maxfail: '0'", "at least 1"),
            (
                {"include": ["../media"]},
                "--include: '../media'",
                "globs below the root of the code",
            ),
            ({"exclude": ["!keep"]}, "--exclude: '!keep'", 'without "!"'),
            ({"code": "git"}, "--code: 'git'", "one of snapshot, checkout"),
            ({"pool": "My Pool"}, "--pool: 'My Pool'", "1 to 32 of a-z"),
            ({"run_id": "-abcdef"}, "--run-id: '-abcdef'", "6 to 26"),
            ({"env": ("A=1",)}, "--env: 'A=**'", 'without "="'),
            ({"settings": "a/b.py"}, "--settings: 'a/b.py'", "a dotted Python name"),
            ({"local": "x"}, "--local: 'x'", "a whole number, at least 0"),
            ({"local": "9" * 9}, "--local: '999999999'", "at least 0, at most 1024, or auto"),
            ({"local_fallback": "1025"}, "--local-fallback: '1025'", "at most 1024"),
            ({"parallel": [1]}, "--parallel: [1] is not valid", "a whole number, at least 1"),
            ({"junit_xml": ""}, "--junit-xml: ''", "a text that is not empty"),
        ],
    )
    def test_a_bad_flag_names_itself_its_value_and_the_fix(
        self, tmp_path: Path, flags: dict[str, object], start: str, fix: str
    ) -> None:
        # When
        message = refusal(tmp_path, flags)

        # Then
        assert message.startswith(start)
        assert fix in message

    def test_a_bad_variable_names_itself(self, tmp_path: Path) -> None:
        assert (
            refusal(tmp_path, DCT_FAILFAST="maybe")
            == "DCT_FAILFAST: 'maybe' is not valid; give true or false"
        )

    @pytest.mark.parametrize(
        "line",
        [
            'maxfail = "2"',
            "tag = 'a'",
            "tag = [1]",
            "failfast = 1",
            "pool = 1",
            "timeout = true",
            "maxfail = 1.0",
        ],
    )
    def test_the_file_must_use_toml_types(self, tmp_path: Path, line: str) -> None:
        # Given
        write_toml(tmp_path, line)

        # Then
        assert f"[tool.dct] {line.split()[0]} in pyproject.toml: " in refusal(tmp_path)

    def test_an_unknown_key_gets_a_suggestion(self, tmp_path: Path) -> None:
        # Given
        write_toml(tmp_path, "test-timeot = 2")

        # Then
        assert (
            refusal(tmp_path)
            == "[tool.dct] test-timeot in pyproject.toml: unknown key; did you mean test-timeout?"
        )

    def test_an_unknown_variable_gets_a_suggestion(self, tmp_path: Path) -> None:
        assert (
            refusal(tmp_path, DCT_BROKR="x")
            == "DCT_BROKR: unknown variable; did you mean DCT_BROKER?"
        )
        assert "did you mean" not in refusal(tmp_path, DCT_ZZZ="x")

    def test_internal_and_foreign_variables_are_left_alone(self, tmp_path: Path) -> None:
        assert settings_of(
            tmp_path, DCT_SLOT="1", DJANGO_SETTINGS_MODULE="x", XDCT_A="y"
        ) == settings_of(tmp_path)

    def test_a_key_twice_is_refused(self, tmp_path: Path) -> None:
        # Given
        write_toml(tmp_path, "run-id = 'abcdef'\nrun_id = 'abcdeg'")

        # Then
        assert "has a key twice" in refusal(tmp_path)

    @pytest.mark.parametrize("content", [b"[tool.dct\n", b"\xff\xfe", b"[tool]\ndct = 3\n"])
    def test_a_broken_file_is_refused_by_name(self, tmp_path: Path, content: bytes) -> None:
        # Given
        (tmp_path / "pyproject.toml").write_bytes(content)

        # Then
        assert "pyproject.toml" in refusal(tmp_path)

    def test_a_flag_we_do_not_have_is_our_own_mistake(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="not a setting: colour"):
            load({"colour": "red"}, env={}, cwd=tmp_path)


class TestTable:
    @pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
    def test_every_default_is_valid_and_every_option_has_a_line_of_help(
        self, option: Option
    ) -> None:
        assert option.help
        assert not option.help.endswith(".")
        assert (
            option.default in (None, "")
            or accept(option, option.default, text=False) == option.default
        )

    def test_the_worker_has_variables_but_no_flags(self) -> None:
        assert {o.name for o in OPTIONS if not o.flags} == {
            "work_dir", "checkout", "worker_python", "private_tree", "lease_seconds",
            "drain_seconds", "templates_kept", "templates_megabytes", "keep_days", "clones_at_once",
            "max_operations", "health_check_seconds", "database_retries", "retry_delay", "warm",
            "log_format", "dynamic_scaling", "min_slots", "max_slots",
        }  # fmt: skip

    def test_no_flag_is_used_twice(self) -> None:
        # Given
        flags = [flag for option in OPTIONS for flag in option.flags]

        # Then
        assert len(flags) == len(set(flags))


class TestBackend:
    """Which backend is taken where none is named; the rule itself is `core.projects`."""

    def test_a_project_of_pytest_is_recognised(self, tmp_path: Path) -> None:
        # Given
        (tmp_path / "pytest.ini").touch()
        # Then
        assert settings_of(tmp_path).backend == "pytest"
        assert origins_of(tmp_path)["backend"].startswith("recognised by pytest.ini")

    def test_a_project_without_a_sign_of_pytest_is_djangos(self, tmp_path: Path) -> None:
        assert settings_of(tmp_path).backend == "django"
        assert origins_of(tmp_path)["backend"] == "default"

    def test_what_was_named_wins(self, tmp_path: Path) -> None:
        # Given
        (tmp_path / "pytest.ini").touch()
        # Then
        for flags, env, origin in (
            ({"backend": "django"}, {}, "--backend"),
            ({}, {"DCT_BACKEND": "django"}, "DCT_BACKEND"),
        ):
            assert settings_of(tmp_path, dict(flags), **env).backend == "django"
            assert origins_of(tmp_path, dict(flags), **env)["backend"] == origin
        write_toml(tmp_path, 'backend = "django"')
        assert settings_of(tmp_path).backend == "django"

    def test_an_option_of_django_says_that_its_tests_are_meant(self, tmp_path: Path) -> None:
        # Given
        (tmp_path / "pytest.ini").touch()
        # Then
        assert settings_of(tmp_path, {"tag": ("slow",)}).backend == "django"
        assert origins_of(tmp_path, DCT_SETTINGS="shop.settings")["backend"].startswith(
            "recognised by DCT_SETTINGS; --backend pytest takes pytest.ini"
        )

    def test_the_search_goes_from_what_is_selected_up_to_the_top_of_the_tree(
        self, tmp_path: Path
    ) -> None:
        # Given a checkout in a folder that has a configuration of its own
        (tmp_path / "pytest.ini").touch()
        project = tmp_path / "project"
        for folder in (".git", "api/tests", "web/tests"):
            (project / folder).mkdir(parents=True)
        (project / "api" / "setup.cfg").write_text("[tool:pytest]\n")
        # Then
        assert settings_of(project).backend == "django"
        assert settings_of(project, {"labels": ("api/tests::X", "-k", "api")}).backend == "pytest"
        assert settings_of(project, {"labels": ("api/tests", "web/tests")}).backend == "django"
        assert settings_of(project / "api" / "tests").backend == "pytest"
        assert origins_of(project / "api" / "tests")["backend"].startswith(
            "recognised by ../setup.cfg [tool:pytest];"
        )
        # And without a checkout only the folder itself counts
        (project / ".git").rmdir()
        assert settings_of(project / "api" / "tests").backend == "django"

    def test_a_file_that_cannot_be_read_is_named_and_a_choice_makes_it_needless(
        self, tmp_path: Path
    ) -> None:
        # Given
        (tmp_path / "tox.ini").write_text("no section\n")
        # Then
        assert refusal(tmp_path).startswith("tox.ini cannot be read (File contains no section")
        assert refusal(tmp_path).endswith("fix the file, or choose with --backend")
        assert settings_of(tmp_path, {"backend": "django"}).backend == "django"
