"""Claims about `dct warm`: workers build what the next run needs, and nothing runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dct_celery.adapters.embedded import EmbeddedPostgres
from tests.support.fleet import Fleet, until
from tests.support.postgres import connect
from tests.support.projects import PASSING, make_project, postgres_settings


def test_a_run_after_it_finds_its_templates_and_says_what_that_saved(
    busy_fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    settings = "PROJECT_NAME = 'Book Shop'\n" + postgres_settings(postgres_server)
    project = make_project(place, PASSING, settings=settings)
    # When
    warmed = busy_fleet.again("warm", project)
    # Then
    assert warmed.code == 0, warmed
    assert " is ready after " in warmed.out
    assert ", templates built" in warmed.out
    assert "1 worker warm" in warmed.out
    assert "; the next run saves the " in warmed.out
    # When
    finished = busy_fleet.run(project, "--timing")
    # Then
    assert finished.code == 0, finished
    (how,) = finished.json["databases"]["workers"].values()
    assert how["templates"] == "reused"
    assert finished.json["databases"]["saved_seconds"] > 0
    assert "templates were there already, which saved " in finished.out
    with connect(postgres_server) as connection:
        names = [name for (name,) in connection.execute("SELECT datname FROM pg_database")]
    template = re.compile(r"test_dct_t_[0-9a-f]{16}_default_book_shop_[0-9a-f]{6}")
    assert any(map(template.fullmatch, names))
    busy_fleet.assert_tidy()


def test_a_worker_warms_its_checkout_when_it_starts(
    fleet: Fleet, place: Path, postgres_server: EmbeddedPostgres
) -> None:
    # Given
    project = make_project(place, PASSING, settings=postgres_settings(postgres_server))
    git = ("git", "-C", str(project), "-c", "user.name=x", "-c", "user.email=x@x")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "x")):
        subprocess.run([*git, *words], check=True)
    # When
    worker = fleet.worker(DCT_CHECKOUT=str(project), DCT_WARM=".")
    # Then
    until(lambda: "1 worker warm" in worker.log.read_text(), what="the checkout to be warm")
    finished = fleet.run(project, "--code", "checkout")
    (how,) = finished.json["databases"]["workers"].values()
    assert how["templates"] == "reused"


def test_workers_that_no_retry_makes_fit_are_named_and_end_it_with_4(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given a suite that cannot be built where a variable is missing
    project = make_project(place, PASSING, settings='SECRET_KEY = os.environ["SHELF_SECRET"]\n')
    # When
    refused = busy_fleet.again("warm", project, SHELF_SECRET="x")
    # Then
    assert refused.code == 4, refused
    assert "build-a@" in refused.err
    assert "SHELF_SECRET" in refused.error


def test_where_there_is_nothing_to_prepare_for_the_worker_says_so(fleet: Fleet) -> None:
    # When
    worker = fleet.worker(wait=False, DCT_WARM=".")
    # Then
    assert worker.wait() == 4
    assert "dct: error: DCT_WARM: this worker has no checkout" in worker.log.read_text()
