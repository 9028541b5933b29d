"""Bad input: one clear line with the thing, its origin and the fix.

The exit code is right, and nothing is left behind.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from dct_celery.adapters.embedded import EmbeddedPostgres
from dct_celery.ports import WorkerInfo
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.security.signing import key_id
from tests.support.fleet import Finished, Fleet, until, unused_port
from tests.support.postgres import connect
from tests.support.projects import PASSING, make_project, postgres_settings, sleeping


def assert_no_worker_took_it(finished: Finished, code: int, *parts: str) -> None:
    """Ends with this code: 4 where a retry cannot help, else 7.

    Every test is `not_run` for one reason that has all these parts, in one line of the summary.
    """
    assert finished.code == code, finished
    assert set(finished.outcomes().values()) == {"not_run"}, finished
    (reason,) = finished.messages()
    missing = [part for part in parts if part not in reason]
    assert not missing, f"{missing} not in {reason}"
    assert any(
        line.startswith("INCOMPLETE") and reason in line for line in finished.out.splitlines()
    ), finished
    assert not finished.inner_traceback, finished


def assert_refused(finished: Finished, code: int, *parts: str) -> None:
    """Ends with this code before anything runs, and with one line that has all these parts."""
    assert finished.code == code, finished
    missing = [part for part in parts if part not in finished.error]
    assert not missing, f"{missing} not in {finished.error}"
    assert (finished.json["tests"], finished.json["exit_code"]) == (
        [],
        code,
    ), "nothing ran, and the report says why"
    assert finished.json["error"] in finished.error


# -- servers ---------------------------------------------------------------------------


def test_a_store_that_does_not_listen_is_named_with_its_origin(fleet: Fleet, place: Path) -> None:
    # Given
    url = f"redis://127.0.0.1:{unused_port()}/0"
    # When
    finished = fleet.run(make_project(place), "--store", url)
    # Then
    assert_refused(finished, 7, url, "--store", "cannot be reached", "start it")
    fleet.assert_tidy()


def test_a_broker_that_does_not_listen_is_named_with_its_origin(fleet: Fleet, place: Path) -> None:
    # Given
    url = f"redis://127.0.0.1:{unused_port()}/0"
    # When
    finished = fleet.run(make_project(place), DCT_BROKER=url)
    # Then
    assert_refused(finished, 7, "broker", url, "DCT_BROKER", "start it or set --broker")
    fleet.assert_tidy()


@pytest.mark.parametrize("flag", ["--store", "--broker"])
def test_a_wrong_password_is_reported_and_not_shown(fleet: Fleet, place: Path, flag: str) -> None:
    # Given
    wrong = re.sub(r"//.*@", "//:open-sesame@", fleet.store)
    # When
    finished = fleet.run(make_project(place), flag, wrong)
    # Then
    assert_refused(finished, 4, flag, "check user and password in its URL")
    assert "open-sesame" not in finished.out + finished.err
    fleet.assert_tidy()


# -- workers ---------------------------------------------------------------------------


def test_without_a_worker_the_pool_is_named_as_empty(fleet: Fleet, place: Path) -> None:
    # When
    finished = fleet.run(make_project(place), "--queue-timeout", "2")
    # Then
    assert_no_worker_took_it(
        finished,
        7,
        repr(fleet.name),
        "--queue-timeout",
        "no workers are connected",
        "celery -A dct_celery worker",
    )
    fleet.assert_tidy()


def test_a_worker_of_another_version_is_named_with_both_versions(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.registry.beat(
        WorkerInfo(
            "old@host",
            "host",
            2,
            "0.0.1",
            PROTOCOL_VERSION,
            key_id(fleet.key),
            (key_id(fleet.key),),
        ),
        60,
    )
    # When
    finished = fleet.run(make_project(place), "--queue-timeout", "2")
    # Then
    assert_no_worker_took_it(
        finished, 4, "old@host: runs dct_celery 0.0.1", "install the same version on both sides"
    )
    fleet.assert_tidy()


def test_a_worker_with_another_signing_key_is_named(fleet: Fleet, place: Path) -> None:
    # Given
    fleet.worker("stranger", DCT_SIGNING_KEY=secrets.token_hex(16))
    # When
    finished = fleet.run(make_project(place), "--queue-timeout", "2")
    # Then
    assert_no_worker_took_it(finished, 4, "stranger@", "signing key", "DCT_SIGNING_KEY")
    fleet.assert_tidy()


# -- selection -------------------------------------------------------------------------


def test_settings_that_do_not_import_are_named_with_the_projects_error(
    busy_fleet: Fleet, place: Path
) -> None:
    # When
    finished = busy_fleet.run(make_project(place, settings="import no_such_package\n"))
    # Then
    assert_refused(finished, 4, "settings", "No module named 'no_such_package'")
    assert "site_settings.py" in finished.err, "the project's own traceback says where"
    busy_fleet.assert_tidy()


def test_settings_that_are_not_given_at_all_are_asked_for(busy_fleet: Fleet, place: Path) -> None:
    # Given
    project = make_project(place, files={"pyproject.toml": ""})
    # When
    finished = busy_fleet.run(project)
    # Then
    assert_refused(finished, 4, "--settings", "DJANGO_SETTINGS_MODULE", "[tool.dct]")
    assert "Traceback" not in finished.err
    busy_fleet.assert_tidy()


def test_a_label_that_does_not_exist_is_one_error_worded_as_by_django(
    busy_fleet: Fleet, place: Path
) -> None:
    # When
    finished = busy_fleet.run(make_project(place), "nowhere.to_be_found")
    # Then
    assert finished.code == 1, finished
    assert finished.outcomes() == {"unittest.loader._FailedTest.nowhere": "error"}
    assert "No module named 'nowhere'" in finished.out
    busy_fleet.assert_tidy()


def test_a_file_as_label_is_refused_as_by_django(busy_fleet: Fleet, place: Path) -> None:
    # When
    finished = busy_fleet.run(make_project(place), "test_it.py")
    # Then
    assert_refused(
        finished, 4, "'test_it.py'", "Use a dotted module name or path to a directory instead"
    )
    busy_fleet.assert_tidy()


def test_nothing_selected_is_exit_5(busy_fleet: Fleet, place: Path) -> None:
    # When
    finished = busy_fleet.run(make_project(place), "-k", "nothing_like_that")
    # Then
    assert_refused(finished, 5, "no test was selected", "-k")
    busy_fleet.assert_tidy()


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    busy_fleet: Fleet, place: Path
) -> None:
    # When
    finished = busy_fleet.run(make_project(place), "--junit-xml", "test_it.py/junit.xml")
    # Then
    assert_refused(finished, 4, "test_it.py/junit.xml", "--junit-xml")
    assert "collected" not in finished.out
    busy_fleet.assert_tidy()


def test_a_second_run_with_one_id_is_refused_and_the_first_unharmed(
    busy_fleet: Fleet, tmp_path: Path
) -> None:
    # Given
    run = f"twice-{secrets.token_hex(4)}"
    first = busy_fleet.start(make_project(tmp_path / "a", sleeping(2, 2, 0.5)), "--run-id", run)
    until(lambda: run in busy_fleet.registry.active_runs(), what="the first run")
    # When
    second = busy_fleet.run(make_project(tmp_path / "b"), "--run-id", run)
    # Then
    assert_refused(second, 4, run, "choose another --run-id")
    done = first.finish()
    assert done.code == 0, done
    assert set(done.outcomes().values()) == {"passed"}
    busy_fleet.assert_tidy()


# -- what the worker finds -------------------------------------------------------------


def test_a_database_that_the_worker_cannot_reach_is_named(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    port = unused_port()
    project = make_project(place, settings=postgres_settings(postgres_server, port=port))
    # When
    finished = busy_fleet.run(project)
    # Then
    assert_no_worker_took_it(
        finished,
        7,
        "build-a@",
        f"{postgres_server.host}:{port}",
        "'default'",
        "cannot be reached",
        "check HOST",
    )
    busy_fleet.assert_tidy()


@pytest.fixture
def weak_role(postgres_server: EmbeddedPostgres) -> Iterator[tuple[str, str]]:
    """Name and password of a role that may not create databases."""
    name, password = f"weak_{secrets.token_hex(4)}", "weak"
    with connect(postgres_server) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(name), sql.Literal(password)
            )
        )
        yield name, password
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_role_that_may_not_create_databases_gets_the_statement_that_fixes_it(
    busy_fleet: Fleet,
    place: Path,
    postgres_server: EmbeddedPostgres,
    weak_role: tuple[str, str],
    our_databases: Callable[[], list[str]],
) -> None:
    # Given
    user, password = weak_role
    project = make_project(
        place, settings=postgres_settings(postgres_server, user=user, password=password)
    )
    # When
    finished = busy_fleet.run(project)
    # Then
    assert_no_worker_took_it(
        finished, 4, "build-a@", user, "may not create databases", f'ALTER ROLE "{user}" CREATEDB'
    )
    busy_fleet.assert_tidy()
    assert our_databases() == []


def test_a_migration_that_fails_ends_the_run_with_its_own_output(
    busy_fleet: Fleet,
    place: Path,
    postgres_server: EmbeddedPostgres,
    our_databases: Callable[[], list[str]],
) -> None:
    # Given
    broken = """
        from django.db import migrations

        def fall_over(apps, schema_editor):
            raise RuntimeError("the shelf fell over")

        class Migration(migrations.Migration):
            dependencies = [("shelf", "0001_initial")]
            operations = [migrations.RunPython(fall_over)]
    """
    project = make_project(
        place,
        settings=postgres_settings(postgres_server),
        files={"shelf/migrations/0002_broken.py": broken},
    )
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 1, finished
    assert set(finished.outcomes().values()) == {"not_run"}
    assert "RuntimeError: the shelf fell over" in "".join(finished.messages())
    assert "0002_broken.py" in finished.err, "the output of migrate itself"
    busy_fleet.assert_tidy()
    assert our_databases() == []


def test_a_system_check_that_fails_ends_the_run_as_django_would(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    models = """
        from django.core import checks

        @checks.register()
        def crooked(app_configs, **kwargs):
            return [checks.Error("the shelf is crooked", hint="level it", id="shelf.E001")]
    """
    project = make_project(
        place,
        PASSING.replace("shelf.models", "shelf.stored"),
        files={
            "shelf/models.py": models,
            "shelf/migrations/0001_initial.py": _NO_MIGRATION,
            "shelf/stored.py": "Book = None\n",
        },
    )
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 1, finished
    assert set(finished.outcomes().values()) == {"not_run"}
    assert "(shelf.E001) the shelf is crooked" in finished.err
    busy_fleet.assert_tidy()


_NO_MIGRATION = """
    from django.db import migrations

    class Migration(migrations.Migration):
        operations = []
"""


def test_a_project_that_caches_in_our_own_redis_database_is_refused(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    cache = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": busy_fleet.store,
        }
    }
    project = make_project(place, settings=f"CACHES = {cache!r}\n")
    # When
    finished = busy_fleet.run(project)
    # Then
    assert_no_worker_took_it(finished, 4, "which is our store", "--store")
    busy_fleet.assert_tidy()


# -- differences between dispatcher and worker -----------------------------------------


@pytest.fixture(scope="module")
def odd_fleet(tmp_path_factory: pytest.TempPathFactory, fleet_store: str) -> Iterator[Fleet]:
    """A pool whose only worker has two more packages.

    It also sets variables that settings and tests of these projects read.
    """
    folder = tmp_path_factory.mktemp("odd_fleet")
    for name in ("oddity", "idle"):
        info = folder / "extra" / f"{name}-2.0.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text(f"{name}.py,,\n")
        (folder / "extra" / f"{name}.py").touch()
    with Fleet(folder, fleet_store) as fleet:
        fleet.worker(
            "odd",
            PYTHONPATH=str(folder / "extra"),
            SITE_ZONE="Europe/Berlin",
            ODD_TESTS="1",
            ODD_TOKEN="hush-hush-1",
        )
        yield fleet


#: Settings that import a package where there is one.
_ODDITY = """
    import contextlib
    with contextlib.suppress(ImportError):
        import oddity
"""


def test_a_package_more_on_a_worker_stops_nothing(odd_fleet: Fleet, place: Path) -> None:
    # When
    finished = odd_fleet.run(make_project(place))
    # Then
    assert finished.code == 0, finished


def test_packages_and_settings_that_differ_are_refused_by_name(
    odd_fleet: Fleet, place: Path
) -> None:
    # Given
    settings = _ODDITY + '    TIME_ZONE = os.environ.get("SITE_ZONE", "UTC")\n'
    project = make_project(place, settings=settings)
    # When
    finished = odd_fleet.run(project)
    # Then
    assert_no_worker_took_it(
        finished,
        4,
        "odd@",
        "oddity is 2.0 on the worker and missing on the dispatcher",
        "TIME_ZONE is 'Europe/Berlin' on the worker and 'UTC' on the dispatcher",
        "--ignore-package",
        "the variable SITE_ZONE, which the project reads, is set on the worker and not on the",
        "--ignore-env SITE_ZONE",
    )
    odd_fleet.assert_tidy()


def test_doctor_says_beforehand_what_a_run_would_refuse(odd_fleet: Fleet, place: Path) -> None:
    # Given
    settings = _ODDITY + '    MARK = os.environ.get("ODD_TOKEN")\n'
    project = make_project(place, settings=settings)

    def doctor(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dct_celery.cli", "doctor", *flags],
            env=odd_fleet.environment({"ODD_TOKEN": "hush-hush-2"}),
            cwd=project,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    until(lambda: odd_fleet.registry.workers()[0].about.get("environment"))
    # When
    told, passed_on = doctor(), doctor("--env", "ODD_*")
    # Then: what only the worker would import is not known before
    (line,) = [line for line in told.stdout.splitlines() if "would refuse" in line]
    assert "the variable ODD_TOKEN, which the project reads, has another value on" in line
    assert "--env ODD_TOKEN" in told.stdout
    assert told.returncode == 4, told
    assert "hush" not in told.stdout + told.stderr
    assert "would refuse" not in passed_on.stdout, passed_on


def test_what_differs_on_purpose_is_ignored_by_globs(odd_fleet: Fleet, place: Path) -> None:
    # Given
    settings = _ODDITY + '    MARK = os.environ.get("ODD_TOKEN")\n'
    project = make_project(place, settings=settings)
    # When
    finished = odd_fleet.run(project, "--ignore-package", "odd*", "--ignore-env", "ODD_*")
    # Then
    assert finished.code == 0, finished


@pytest.mark.parametrize("given", ["", "hush-hush-2"], ids=["unset", "other"])
def test_a_variable_that_the_project_reads_is_named_and_its_value_stays_secret(
    odd_fleet: Fleet, place: Path, given: str
) -> None:
    # Given a project that behaves otherwise here and there, and no setting shows it
    tests = """
        import os
        from django.test import SimpleTestCase

        TOKEN = os.environ.get("ODD_TOKEN", "")

        class Features(SimpleTestCase):
            def test_it(self):
                self.assertNotEqual(TOKEN, "hush-hush-1")
    """
    project = make_project(place, tests)
    here = {"ODD_TOKEN": given} if given else {}
    # When
    refused = odd_fleet.run(project, **here)
    passed_on = odd_fleet.run(project, "--env", "ODD_TOKEN", ODD_TOKEN="hush-hush-2")
    # Then
    state = "has another value on the worker" if given else "is set on the worker and not on the"
    assert_no_worker_took_it(
        refused,
        4,
        f"the variable ODD_TOKEN, which the project reads, {state}",
        "--env ODD_TOKEN" if given else "unset it there, or set it here",
    )
    shown = [refused.out, refused.err, json.dumps(refused.json)]
    odd_fleet.assert_tidy()  # the worker removes folders of its runs
    shown += [path.read_text(errors="replace") for path in odd_fleet.folder.rglob("*.jsonl")]
    assert not [text for text in shown if "hush" in text]
    assert passed_on.code == 0, passed_on


def test_a_suite_that_misses_a_variable_is_refused_with_its_name(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    project = make_project(place, settings='SECRET_KEY = os.environ["SHELF_SECRET"]\n')
    # When
    refused = busy_fleet.run(project, SHELF_SECRET="hush-hush-3")
    passed_on = busy_fleet.run(project, "--env", "SHELF_*", SHELF_SECRET="hush-hush-3")
    # Then
    assert_no_worker_took_it(
        refused,
        4,
        "the suite cannot be built on this worker: KeyError: 'SHELF_SECRET'",
        "the variable SHELF_SECRET, which the project reads, is set on the dispatcher and not on",
        "--env SHELF_SECRET",
    )
    assert "hush" not in refused.out + refused.err
    assert passed_on.code == 0, passed_on


def test_a_database_out_of_reach_is_refused_with_the_variables_that_lead_there(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    settings = postgres_settings(postgres_server)
    settings += (
        f'DATABASES["default"]["PORT"] = os.environ.get("SHELF_DB_PORT", "{unused_port()}")\n'
    )
    project = make_project(place, settings=settings)
    port = str(postgres_server.port)
    # When
    refused = busy_fleet.run(project, SHELF_DB_PORT=port)
    passed_on = busy_fleet.run(project, "--env", "SHELF_*", SHELF_DB_PORT=port)
    # Then
    assert "cannot be reached from this worker" in refused.err
    assert "the variable SHELF_DB_PORT, which the project reads, is set on the dispatcher and" in (
        refused.err
    )
    assert passed_on.code == 0, passed_on


def test_each_machine_may_have_its_own_way_to_the_database(
    fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    settings = postgres_settings(postgres_server)
    settings += (
        'DATABASES["default"]["HOST"] = os.environ.get("SHELF_DB_HOST", "nowhere.invalid")\n'
    )
    project = make_project(place, settings=settings)
    fleet.worker(SHELF_DB_HOST=postgres_server.host)
    # When
    finished = fleet.run(project)
    # Then
    assert finished.code == 0, finished


def test_a_suite_that_differs_is_refused_with_both_counts(odd_fleet: Fleet, place: Path) -> None:
    # Given
    more = "\nimport os\nif os.environ.get('ODD_TESTS'):\n    class Odd(Plain):\n        pass\n"
    project = make_project(place, files={"test_more.py": "from test_it import Plain" + more})
    # When
    finished = odd_fleet.run(project, "--ignore-package", "oddity")
    # Then
    assert_no_worker_took_it(
        finished, 4, "odd@", "the suite differs", "4 tests on the worker, 3 on the dispatcher"
    )
    odd_fleet.assert_tidy()


def test_a_checkout_that_differs_is_refused_and_an_equal_one_is_used(
    fleet: Fleet, tmp_path: Path, place: Path
) -> None:
    # Given
    checkout = make_project(tmp_path / "checkout")
    project = make_project(place)
    fleet.worker(DCT_CHECKOUT=str(checkout))
    # When
    equal = fleet.run(project, "--code", "checkout")
    (project / "test_it.py").write_text((project / "test_it.py").read_text() + "# changed\n")
    different = fleet.run(project, "--code", "checkout")
    # Then
    assert equal.code == 0, equal
    assert set(equal.outcomes().values()) == {"passed"}
    assert_no_worker_took_it(
        different, 4, str(checkout), "check out the same commit", "--code snapshot"
    )
    fleet.assert_tidy()


_NAMED_ANEW = """
    import uuid
    from django.test import SimpleTestCase

    class Fixed(SimpleTestCase):
        def test_it(self): pass

    class Named(SimpleTestCase):
        pass

    for number in range(3):
        setattr(Named, f"test_{number}_{uuid.uuid4()}".replace("-", "_"), lambda self: None)
"""


def test_names_that_are_others_in_each_process_are_told_with_both_and_the_cause(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    project = make_project(place, _NAMED_ANEW)
    # When
    finished = busy_fleet.run(project)
    # Then
    assert_no_worker_took_it(
        finished,
        4,
        "the suite differs from the dispatcher's: 4 tests on the worker, 4 on the dispatcher",
        "test 2 is test_it.Named.test_0_",
        "a uuid is part of the name",
        "names must be the same in every process",
    )
    busy_fleet.assert_tidy()


def test_names_from_a_set_are_the_same_whether_or_not_a_machine_has_bytecode(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given a set that Python compiles to one order and reads from a .pyc file in another
    tests = """
        from django.test import SimpleTestCase

        class Named(SimpleTestCase):
            pass

        for position, number in enumerate({1, 2, 3, 99, 100001}):
            setattr(Named, f"test_{position}_{number}", lambda self: None)
    """
    project = make_project(place, tests)
    # When the worker has some from the first run, and the dispatcher has none
    first, second = (busy_fleet.run(project, PYTHONDONTWRITEBYTECODE="1") for _ in range(2))
    # Then
    assert (first.code, second.code) == (0, 0), second
    assert first.outcomes() == second.outcomes()


def test_an_order_that_depends_on_the_process_is_told_as_such(fleet: Fleet, place: Path) -> None:
    # Given
    tests = """
        import random
        import unittest
        from django.test import SimpleTestCase

        class Shuffled(SimpleTestCase):
            pass

        for letter in "abcdefghij":
            setattr(Shuffled, f"test_{letter}", lambda self: None)

        def load_tests(loader, tests, pattern):
            names = [f"test_{letter}" for letter in "abcdefghij"]
            random.shuffle(names)
            return unittest.TestSuite(map(Shuffled, names))
    """
    project = make_project(place, tests)
    for number in range(3):
        fleet.worker(f"build-{number}")
    # When
    finished = fleet.run(project)
    # Then
    assert "it is the same tests in another order" in finished.err, finished
