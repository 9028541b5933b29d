"""The way of the code from one machine to others.

What is sent, what is refused, and what repairs itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from dct_celery.adapters.redisstore import keys
from dct_celery.adapters.source import snapshot
from dct_celery.adapters.source.index import Index, TreeFile
from dct_celery.core.ids import digest_of
from tests.support.fleet import Fleet, unused_port
from tests.support.projects import PASSING, make_project
from tests.support.trees import git


def dct(project: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that must not need any server: there is none."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DCT_", "DJANGO_"))
    }
    env = {**plain, "DCT_STORE": f"redis://127.0.0.1:{unused_port()}/0", **environment}
    command = [sys.executable, "-m", "dct_celery.cli", *args]
    return subprocess.run(
        command, env=env, cwd=project, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_files_are_listed_without_a_store(place: Path) -> None:
    # Given a project whose options leave something out and bring something in
    options = 'include = ["*.mo"]\nexclude = ["shelf/migrations/"]\njunit-xml = "junit.xml"\n'
    files = {
        ".gitignore": "*.mo\n",
        "locale/django.mo": "x",
        "junit.xml": "<testsuites/>",
        ".env": "KEY=1",
    }
    project = make_project(place, files=files, options=options)
    git(project, "init", "-q")
    # When
    done = dct(project, "run", "--list-files")
    # Then
    assert done.returncode == 0, done.stderr
    *rows, total = done.stdout.splitlines()
    listed = [row.split()[1] for row in rows]
    assert listed == [
        ".env",
        ".gitignore",
        "locale/django.mo",
        "pyproject.toml",
        "shelf/__init__.py",
        "shelf/models.py",
        "site_settings.py",
        "test_it.py",
    ]
    assert total.startswith("8 files, ")
    assert done.stderr.startswith("warning: .env looks like secrets")
    assert done.stderr.count("\n") == 1


def test_a_folder_without_a_project_is_refused_before_anything_is_sent(place: Path) -> None:
    # Given
    place.mkdir()
    (place / "holiday.jpg").touch()
    # When
    for local in ([], ["--local", "1"]):
        done = dct(place, "run", *local)
        # Then
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done.stderr
        assert "has no Django project" in done.stderr


def test_what_is_no_id_of_a_run_names_no_journal(place: Path) -> None:
    # Given
    place.mkdir()
    # When
    done = dct(place, "attach", "../../x")
    # Then
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1), done.stderr
    assert "'../../x' is no id of a run" in done.stderr


def test_a_worker_whose_name_is_a_path_is_refused_in_one_line(fleet: Fleet, tmp_path: Path) -> None:
    # When
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "dct_celery",
        "worker",
        "-n",
        "../../up@host",
        "-c",
        "1",
    ]
    env = fleet.environment({"XDG_CACHE_HOME": str(tmp_path / "a" / "b")})
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    # Then
    assert done.returncode != 0
    assert (
        "dct: error: the worker's name '../../up@host' is no name of a folder"
        in done.stdout + done.stderr
    ), done
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("up@host"))


def blob(fleet: Fleet, digest: str) -> Any:
    return fleet.client.get(keys.blob(digest))


def test_a_damaged_and_a_lost_blob_are_sent_again_within_the_run(fleet: Fleet, place: Path) -> None:
    # Given a project that an earlier run has sent, a store that damaged one file and lost another,
    # and a new worker
    project = make_project(place)
    fleet.worker("build-a")
    first = fleet.run(project)
    assert first.code == 0, first
    files = {file.path: file for file in snapshot.take(project).index.files}
    damaged, bomb = files["test_it.py"].digest, files["site_settings.py"].digest
    fleet.client.set(keys.blob(damaged), blob(fleet, damaged)[:-5] + b"xxxxx", ex=600)
    fleet.client.set(keys.blob(bomb), zlib.compress(bytes(50_000_000)), ex=600)
    fleet.workers[0].terminate()
    fleet.workers[0].wait()
    fleet.worker("build-b")
    # When
    second = fleet.run(project)
    # Then
    assert second.code == 0, second
    assert set(second.outcomes().values()) == {"passed"}
    assert digest_of(zlib.decompress(blob(fleet, damaged))) == damaged
    fleet.assert_tidy()


def test_another_index_under_the_digest_of_a_run_runs_no_code(
    fleet: Fleet, tmp_path: Path, place: Path
) -> None:
    # Given an attacker with the store's password who knows what will be run
    proof = tmp_path / "proof"
    project = make_project(place)
    evil = (
        f"open({str(proof)!r}, 'w').close()\n".encode()
        + (project / "site_settings.py").read_bytes()
    )
    taken = snapshot.take(project)
    changed = TreeFile("site_settings.py", 0o644, len(evil), digest_of(evil))
    rows = tuple(changed if file.path == changed.path else file for file in taken.index.files)
    fleet.client.set(keys.blob(changed.digest), zlib.compress(evil), ex=600)
    fleet.client.set(keys.blob(taken.digest), zlib.compress(Index(rows).encode()), ex=600)
    fleet.worker()
    # When
    finished = fleet.run(project)
    # Then the dispatcher has sent its own once more
    assert finished.code == 0, finished
    assert not proof.exists()
    fleet.assert_tidy()


def test_what_a_test_wrote_into_the_code_is_not_there_in_the_next_run(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given a test that fails where an earlier one has left something
    test = """
    import pathlib, stat
    from django.test import SimpleTestCase

    class Writes(SimpleTestCase):
        def test_it(self):
            here = pathlib.Path(__file__).parent
            self.assertFalse((here / "conftest.py").exists())
            self.assertEqual(stat.S_IMODE((here / "private.txt").stat().st_mode), 0o600)
            (here / "conftest.py").write_text("")
            (here / "private.txt").chmod(0o644)
    """
    project = make_project(place, test, files={"private.txt": "x"})
    (project / "private.txt").chmod(0o600)
    # When / Then
    for _ in range(2):
        finished = busy_fleet.run(project)
        assert finished.code == 0, finished
    busy_fleet.assert_tidy()


def test_odd_names_and_targets_travel(busy_fleet: Fleet, place: Path) -> None:
    # Given
    test = """
    import os
    from django.test import SimpleTestCase

    class Odd(SimpleTestCase):
        def test_it(self):
            self.assertEqual(os.readlink(b"link"), b"caf\\xe9")
            self.assertTrue(os.path.exists(b"caf\\xe9"))
    """
    project = make_project(place, test)
    (project / os.fsdecode(b"caf\xe9")).touch()
    (project / "link").symlink_to(os.fsdecode(b"caf\xe9"))
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 0, finished
    busy_fleet.assert_tidy()


def test_a_worker_without_a_checkout_says_which_variable_is_missing(
    fleet: Fleet, tmp_path: Path, place: Path
) -> None:
    # Given
    fleet.worker("none")
    fleet.worker("gone", DCT_CHECKOUT=str(tmp_path / "gone"))
    # When
    finished = fleet.run(make_project(place, PASSING), "--code", "checkout")
    # Then
    assert finished.code != 0
    (reason,) = finished.messages()
    assert "this worker has none: set DCT_CHECKOUT to its folder" in reason
    assert "gone is not a folder" in reason
    assert not finished.inner_traceback, finished
    fleet.assert_tidy()


# -- what belongs to the tree, and what a failure misses -----------------------------------


def test_submodules_and_empty_folders_are_there_on_the_worker(
    busy_fleet: Fleet, tmp_path: Path, place: Path
) -> None:
    # Given
    lib = make_project(tmp_path / "lib", files={"pricing.py": "PRICE = 3\n"})
    git(lib, "init", "-q")
    git(lib, "add", "-A")
    git(lib, "commit", "-qm", "first")
    tests = """
        import os
        from django.test import SimpleTestCase
        from vendor.pricing import PRICE

        class There(SimpleTestCase):
            def test_submodule(self):
                self.assertEqual(PRICE, 3)
            def test_folder(self):
                self.assertEqual(os.listdir("media/uploads"), [])
    """
    project = make_project(place, tests)
    git(project, "init", "-q")
    git(project, "-c", "protocol.file.allow=always", "submodule", "-q", "add", str(lib), "vendor")
    (project / "media" / "uploads").mkdir(parents=True)
    # When
    finished = busy_fleet.run(project)
    # Then
    assert finished.code == 0, finished
    assert set(finished.outcomes().values()) == {"passed"}


def test_a_failure_names_the_ignored_file_that_it_misses(busy_fleet: Fleet, place: Path) -> None:
    # Given
    tests = """
        from pathlib import Path
        from django.test import SimpleTestCase

        class Reads(SimpleTestCase):
            def test_it(self):
                Path("made/data.json").read_text()
    """
    files = {".gitignore": "made/\n", "made/data.json": "{}"}
    project = make_project(place, tests, files=files)
    git(project, "init", "-q")
    # When
    missed, brought = busy_fleet.run(project), busy_fleet.run(project, "--include", "made/**")
    # Then
    named = "made/data.json is ignored by git and did not travel; include it"
    assert missed.code == 1, missed
    assert named in missed.out
    (test,) = missed.json["tests"]
    assert named in test["message"]
    assert brought.code == 0, brought


def test_a_worker_that_misses_a_generated_module_says_so(busy_fleet: Fleet, place: Path) -> None:
    # Given
    files = {".gitignore": "_version.py\n", "shelf/_version.py": "", "shelf/__init__.py": (
        "from shelf import _version\n"
    )}  # fmt: skip
    project = make_project(place, files=files)
    git(project, "init", "-q")
    # When
    refused = busy_fleet.run(project)
    # Then
    assert refused.code == 4, refused
    assert "shelf/_version.py is ignored by git and did not travel; include it" in refused.err
    assert all("shelf/_version.py" in message for message in refused.messages())


def test_a_test_module_that_misses_a_generated_module_says_so(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    tests = """
        from django.test import SimpleTestCase
        from shelf import _version

        class One(SimpleTestCase):
            def test_one(self): pass
            def test_two(self): pass
    """
    files = {".gitignore": "_version.py\n", "shelf/_version.py": ""}
    project = make_project(place, tests, files=files)
    git(project, "init", "-q")
    # When
    refused = busy_fleet.run(project)
    # Then
    assert refused.code == 4, refused
    assert (
        "test_it cannot be imported on the worker: ImportError: cannot import name" in refused.err
    )
    assert "shelf/_version.py is ignored by git and did not travel; include it" in refused.err


def test_settings_that_ask_git_are_answered_as_in_the_checkout(
    busy_fleet: Fleet, place: Path
) -> None:
    # Given
    settings = """
        import subprocess
        def ask(*words):
            return subprocess.check_output(["git", *words], text=True).strip()
        VERSION = ask("describe", "--tags")
        COMMIT = ask("rev-parse", "HEAD")
    """
    tests = """
        import os
        from django.conf import settings
        from django.test import SimpleTestCase

        class Known(SimpleTestCase):
            def test_version(self):
                self.assertEqual(settings.VERSION, "v1.2")
            def test_commit(self):
                self.assertEqual(settings.COMMIT, os.environ["DJANGO_COMMIT"])
    """
    project = make_project(place, tests, settings=settings)
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    git(project, "tag", "v1.2")
    words = ["git", "-C", str(project), "rev-parse", "HEAD"]
    commit = subprocess.check_output(words, text=True).strip()
    # When
    finished = busy_fleet.run(project, DJANGO_COMMIT=commit)
    refused = busy_fleet.run(project, "--exclude", ".git", DJANGO_COMMIT=commit)
    # Then
    assert finished.code == 0, finished
    assert refused.code == 4, refused
    assert "the tree on a worker is no git repository, or has only its commits" in refused.err
