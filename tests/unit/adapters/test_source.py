"""The snapshot: what travels, what does not, and what is said before it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dct_celery.adapters.source import snapshot
from dct_celery.adapters.source.snapshot import Selection
from dct_celery.adapters.source.tree import check_checkout
from dct_celery.core.globs import Globs
from dct_celery.core.ids import digest_of
from dct_celery.errors import ConfigError, UsageError
from tests.support.trees import git, make_tree


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "project")


def paths(
    root: Path, *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = (), written: str = ""
) -> list[str]:
    selection = Selection(Globs(include), Globs(exclude), frozenset({written}))
    return sorted(snapshot.take(root, selection).index.paths)


def test_a_checkout_travels_with_dirty_and_untracked_files_and_without_ignored_and_deleted_ones(
    project: Path,
) -> None:
    # Given a checkout with one file of each kind
    git(project, "init", "-q")
    (project / ".gitignore").write_text("secret.env\n")
    (project / "gone.py").write_text("")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    (project / "gone.py").unlink()
    (project / "app" / "code.py").write_text("x = 2\n")
    (project / "new.py").write_text("")
    (project / "secret.env").write_text("KEY=1")
    # When
    taken = snapshot.take(project).index
    # Then
    assert sorted(taken.paths) == [".gitignore", "app/code.py", "link", "new.py", "run.sh"]
    assert {file.path: file.digest for file in taken.files}["app/code.py"] == digest_of(b"x = 2\n")


def test_a_folder_without_git_travels_without_caches_and_environments(project: Path) -> None:
    # Given
    for name in ("__pycache__", ".venv", "node_modules"):
        (project / name).mkdir()
        (project / name / "thing.py").write_text("")
    (project / "env-of-mine").mkdir()
    (project / "env-of-mine" / "pyvenv.cfg").write_text("")
    # When / Then
    assert paths(project) == ["app/code.py", "link", "run.sh"]
    assert snapshot.find_root(project) == project


def test_why_nothing_is_known_to_have_changed_is_said(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"project is no checkout of git, .*; leave it out$"):
        snapshot.changed_files(project, "HEAD")
    # Given a checkout without a commit
    git(project, "init", "-q")
    with pytest.raises(ConfigError, match=r"'HEAD' \(fatal: bad revision .*, or leave it out$"):
        snapshot.changed_files(project, "HEAD")


def test_a_link_to_a_folder_travels_with_and_without_git(project: Path) -> None:
    # Given
    (project / "shop").symlink_to("app")
    # When / Then
    assert "shop" in paths(project)
    git(project, "init", "-q")
    assert "shop" in paths(project)


def repository(folder: Path, **files: str) -> Path:
    """A repository with these files, committed; "_" in a name stands for a dot."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def test_submodules_travel_with_what_changed_in_them(project: Path, tmp_path: Path) -> None:
    # Given a submodule inside of a submodule
    inner = repository(tmp_path / "inner", deep_py="")
    outer = repository(tmp_path / "outer", lib_py="x = 1\n", _gitignore="*.log\n")
    add = ("-c", "protocol.file.allow=always", "submodule", "-q", "add")
    git(outer, *add, str(inner), "inner")
    git(outer, "commit", "-qm", "second")
    git(project, "init", "-q")
    git(project, *add, str(outer), "vendor")
    update = ("submodule", "-q", "update", "--init", "--recursive")
    git(project / "vendor", "-c", "protocol.file.allow=always", *update)
    (project / "vendor" / "lib.py").write_text("x = 2\n")
    (project / "vendor" / "new.py").touch()
    (project / "vendor" / "out.log").touch()
    # When
    taken = snapshot.take(project).index
    # Then
    assert {path for path in taken.paths if path.startswith("vendor/")} == {
        "vendor/.gitignore",
        "vendor/.gitmodules",
        "vendor/inner/deep.py",
        "vendor/lib.py",
        "vendor/new.py",
    }
    digests = {file.path: file.digest for file in taken.files}
    assert digests["vendor/lib.py"] == digest_of(b"x = 2\n")


def test_a_submodule_that_is_not_checked_out_is_an_empty_folder(
    project: Path, tmp_path: Path
) -> None:
    # Given
    lib = repository(tmp_path / "lib", lib_py="")
    origin = repository(tmp_path / "origin", app_py="")
    git(origin, "-c", "protocol.file.allow=always", "submodule", "-q", "add", str(lib), "vendor")
    git(origin, "commit", "-qm", "second")
    git(tmp_path, "clone", "-q", str(origin), str(tmp_path / "clone"))
    # When
    taken = snapshot.take(tmp_path / "clone").index
    # Then
    assert taken.folders == ("vendor",)
    assert sorted(taken.paths) == [".gitmodules", "app.py"]


def test_a_repository_beside_what_is_tracked_travels(project: Path) -> None:
    # Given
    git(project, "init", "-q")
    repository(project / "tools" / "beside", tool_py="", _gitignore="*.log\n")
    (project / "tools" / "beside" / "out.log").touch()
    (project / "tools" / "beside" / "spare").mkdir()
    # When
    taken = snapshot.take(project).index
    # Then
    assert [path for path in taken.paths if path.startswith("tools/")] == [
        "tools/beside/.gitignore",
        "tools/beside/tool.py",
    ]
    assert taken.folders == ("tools/beside/spare",)


def test_a_repository_that_git_refuses_is_named(project: Path) -> None:
    # Given
    git(project, "init", "-q")
    repository(project / "broken", a_py="")
    (project / "broken" / ".git" / "index").write_text("no index")
    # When / Then
    with pytest.raises(UsageError, match=r"git refuses to list .*/broken: "):
        snapshot.take(project)


@pytest.mark.parametrize("by", ["git", "walk"])
def test_empty_folders_travel_and_ignored_ones_do_not(project: Path, by: str) -> None:
    # Given
    for name in ("empty/inner", "new/empty", "app/empty", "ignored/below", "__pycache__"):
        (project / name).mkdir(parents=True)
    (project / "new" / "file.py").touch()
    for name in ("new/cache", "new/inner/cache"):
        (project / name).mkdir(parents=True)
        (project / name / "file.bin").touch()
    (project / "only_logs").mkdir()
    (project / "only_logs" / "a.log").touch()
    (project / ".gitignore").write_text("*.log\n/ignored/\n__pycache__/\ncache/\n")
    if by == "git":
        git(project, "init", "-q")
        git(project, "add", "app", "run.sh", "link")
    # When
    folders = snapshot.take(project).index.folders
    # Then
    expected = ["app/empty", "empty/inner", "new/empty"]
    if by == "git":  # what is in it is ignored, the folder is not
        expected += ["only_logs", "new/inner"]
    else:
        expected.append("ignored/below")
    assert sorted(folders) == sorted(expected)


def test_a_folder_that_is_excluded_or_written_does_not_travel(project: Path) -> None:
    # Given
    for name in ("artifacts", "spare", "kept"):
        (project / name).mkdir()
    selection = Selection(exclude=Globs(("spare/",)), written=frozenset({"artifacts"}))
    # When / Then
    assert snapshot.take(project, selection).index.folders == ("kept",)


def test_a_folder_of_which_all_files_are_excluded_is_empty(project: Path) -> None:
    # Given
    (project / "media").mkdir()
    (project / "media" / "big.bin").touch()
    # When
    index = snapshot.take(project, Selection(exclude=Globs(("*.bin",)))).index
    # Then
    assert index.folders == ("media",)


def test_empty_folders_make_no_difference_to_an_equal_checkout(project: Path) -> None:
    # Given
    before = snapshot.take(project, git_modes=True).digest
    (project / "empty").mkdir()
    # Then
    assert snapshot.take(project, git_modes=True).digest == before
    assert snapshot.take(project).digest != before


def test_the_root_is_the_top_of_the_checkout(project: Path) -> None:
    # Given
    git(project, "init", "-q")
    # When / Then
    assert snapshot.find_root(project / "app") == project


def test_a_checkout_below_a_folder_whose_name_is_no_utf_8_is_found(tmp_path: Path) -> None:
    # Given
    project = make_tree(tmp_path / os.fsdecode(b"caf\xe9"))
    git(project, "init", "-q")
    # When / Then
    assert snapshot.find_root(project / "app") == project


def test_a_checkout_without_the_git_program_is_refused_not_walked(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    (project / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    # When / Then
    with pytest.raises(UsageError, match="not installed"):
        snapshot.take(snapshot.find_root(project))


def test_equal_trees_have_equal_digests_and_a_mode_makes_a_difference(project: Path) -> None:
    # Given
    before = snapshot.take(project).digest
    os.utime(project / "run.sh", (1, 1))
    assert snapshot.take(project).digest == before
    # When
    (project / "run.sh").chmod(0o644)
    # Then
    assert snapshot.take(project).digest != before


def test_a_file_too_large_to_travel_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(snapshot, "MAX_FILE", 3)
    # When / Then
    with pytest.raises(UsageError, match=r"app/code\.py.*--exclude"):
        snapshot.take(project)


def test_too_many_files_are_refused_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(snapshot, "MAX_INDEX", 3)
    # When / Then
    with pytest.raises(UsageError, match="too many to send"):
        snapshot.take(project)


def test_a_file_that_may_not_be_read_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def refuse(path: Path, *args: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    # When / Then
    with pytest.raises(UsageError, match=r"app/code\.py cannot be read \(Permission denied\)"):
        snapshot.take(project)


def test_a_file_that_vanishes_before_it_is_sent_is_named(project: Path) -> None:
    # Given
    taken = snapshot.take(project)
    (project / "run.sh").unlink()
    # When / Then
    with pytest.raises(ConfigError, match=r"run\.sh changed while it was read"):
        [snapshot.content(project, file) for file in taken.index.files]


# -- include and exclude ---------------------------------------------------------------


def test_include_brings_what_git_ignores_and_leaves_caches_alone(project: Path) -> None:
    # Given
    git(project, "init", "-q")
    (project / ".gitignore").write_text("*.mo\nnode_modules\n__pycache__\n_version.py\n")
    for name in ("locale/de", "node_modules/a", "__pycache__"):
        (project / name).mkdir(parents=True)
        (project / name / "x.mo").touch()
    (project / "app" / "_version.py").touch()
    git(project, "add", "-A")
    # When / Then
    found = paths(project, include=("*.mo", "app/_version.py"))
    assert found == [
        ".gitignore",
        "app/_version.py",
        "app/code.py",
        "link",
        "locale/de/x.mo",
        "run.sh",
    ]


def test_include_may_spell_out_a_folder_that_is_left_out_otherwise_but_no_repository(
    project: Path,
) -> None:
    # Given
    for name in ("node_modules/a", "node_modules/b", ".git"):
        (project / name).mkdir(parents=True)
        (project / name / "x.js").touch()
    (project / ".git").rename(project / "app" / ".git")
    # When / Then
    found = paths(project, include=("node_modules/a/*.js", "app/.git/**"))
    assert found == ["app/code.py", "link", "node_modules/a/x.js", "run.sh"]


def test_include_brings_the_files_of_a_submodule(project: Path) -> None:
    # Given
    git(project, "init", "-q")
    (project / "vendored").mkdir()
    (project / "vendored" / ".git").write_text("gitdir: ../.git/modules/vendored")
    (project / "vendored" / "code.py").touch()
    # When / Then
    assert "vendored/code.py" in paths(project, include=("vendored/",))
    assert "vendored/.git" not in paths(project, include=("vendored/",))


def test_exclude_leaves_out_and_wins_over_include(project: Path) -> None:
    assert paths(project, exclude=("app", "link"), include=("app/code.py",)) == ["run.sh"]


def test_what_the_last_run_wrote_does_not_travel(project: Path) -> None:
    # Given
    (project / "junit.xml").touch()
    (project / ".work" / "trees").mkdir(parents=True)
    (project / ".work" / "trees" / "code.py").touch()
    (project / ".workers").touch()
    # When / Then
    assert paths(project, written="junit.xml") == [
        ".work/trees/code.py",
        ".workers",
        "app/code.py",
        "link",
        "run.sh",
    ]
    assert paths(project, written=".work") == [
        ".workers",
        "app/code.py",
        "junit.xml",
        "link",
        "run.sh",
    ]


def test_an_include_that_matches_nothing_is_reported(project: Path) -> None:
    # When
    taken = snapshot.take(project, Selection(include=Globs(["*.mo", "*.sh"])))
    # Then
    (line,) = snapshot.warnings(taken)
    assert line.startswith("include *.mo matches no file")


def test_files_that_look_like_secrets_are_named_in_one_line_unless_they_are_included_or_excluded(
    project: Path,
) -> None:
    # Given
    for name in (".env", "db.sqlite3", "tls.pem", "ca.pem"):
        (project / name).write_text("-----BEGIN PRIVATE KEY-----" if name == "tls.pem" else "x")
    # When
    (line,) = snapshot.warnings(snapshot.take(project))
    # Then
    assert line.startswith(".env, db.sqlite3, tls.pem look like secrets")
    silent = Selection(include=Globs(["tls.pem", "db.sqlite3"]), exclude=Globs([".env"]))
    assert list(snapshot.warnings(snapshot.take(project, silent))) == []


def test_the_listing_has_every_path_its_size_and_the_sum(project: Path) -> None:
    # Given
    (project / os.fsdecode(b"odd\xff\nname")).write_bytes(b"x" * 1000)
    # When
    lines = list(snapshot.listing(snapshot.take(project)))
    # Then
    assert [line.split(maxsplit=1) for line in lines] == [
        ["6", "app/code.py"],
        ["link", "link -> app/code.py"],
        ["1,000", r"odd\xff\nname"],
        ["10", "run.sh"],
        ["4", "files, 1,016 bytes"],
    ]


# -- checkouts of workers --------------------------------------------------------------


def test_a_checkout_that_differs_is_refused_with_both_hashes(project: Path) -> None:
    # Given
    digest = snapshot.take(project, git_modes=True).digest
    assert check_checkout(project, digest) == project
    (project / "app" / "code.py").write_text("x = 2\n")
    # When / Then
    with pytest.raises(ConfigError, match=digest[:12]):
        check_checkout(project, digest)


def test_checkouts_of_one_commit_are_equal_whatever_the_umask_was(project: Path) -> None:
    # Given
    digest = snapshot.take(project, git_modes=True).digest
    # When
    (project / "app" / "code.py").chmod(0o600)
    (project / "run.sh").chmod(0o700)
    # Then
    assert check_checkout(project, digest) == project


def test_a_checkout_that_is_not_there_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"DCT_CHECKOUT: .*nowhere is not a folder"):
        check_checkout(tmp_path / "nowhere", "0" * 40)
