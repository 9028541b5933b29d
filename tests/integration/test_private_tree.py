"""Claims about `testproc.isolation.private_tree` on this kernel, as root and as a plain user."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dct_celery.testproc.isolation import private_tree
from dct_celery.worker.folders.work_folder import RunFolder

#: The user "nobody", on every Linux.
NOBODY = 65534
_SET_DUMPABLE = 4


class Scene:
    """A tree, and forks that have it for themselves."""

    def __init__(self, base: Path, user: int) -> None:
        self.base, self.user = base, user
        self.root = base / "tree, of:all\\"
        (self.root / "app").mkdir(parents=True)
        (self.root / "app" / "code.py").write_text("X = 1\n")
        #: The loader's TMPDIR, with a folder that an import has made.
        self.temporary = base / "tmp, of:loader"
        (self.temporary / "made").mkdir(parents=True)
        #: What entering took, in the fork.
        self.seconds = 0.0
        if user:
            for path in (base, *base.rglob("*")):
                os.chown(path, user, user)

    def layer(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="layer, of:", dir=self.base))
        folder.chmod(0o755)
        if self.user:
            os.chown(folder, self.user, self.user)
        return folder

    def start(self, deed: Callable[[], Any], layer: Path) -> tuple[int, int]:
        """A fork that enters and does this: (its pid, the descriptor with what it returns)."""
        inbox, outbox = os.pipe()
        pid = os.fork()
        if pid == 0:
            said: Any = "nothing was done"
            try:
                if self.user:
                    os.setgroups([])
                    os.setgid(self.user)
                    os.setuid(self.user)
                    # As it is after an exec, which a user's process has behind it.
                    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)
                os.chdir(self.root / "app")
                start = time.perf_counter()
                private_tree.enter(str(self.root), str(layer), str(self.temporary))
                self.seconds = time.perf_counter() - start
                said = deed()
            except BaseException as error:
                said = repr(error)
            finally:
                os.write(outbox, json.dumps(said).encode())
                os._exit(0)
        os.close(outbox)
        return pid, inbox

    def inside(self, deed: Callable[[], Any], layer: Path | None = None) -> Any:
        """What a fork of its own returns."""
        pid, inbox = self.start(deed, layer or self.layer())
        with open(inbox, "rb") as file:
            said = file.read()
        os.waitpid(pid, 0)
        return json.loads(said)


def refusal(base: Path, user: int) -> str:
    """What other programs hear when they try the same; "" if they succeed."""
    for name in ("l", "u", "w"):
        (base / name).mkdir()
        os.chown(base / name, user, user)
    options = f"lowerdir={base}/l,upperdir={base}/u,workdir={base}/w"
    mount = f"mount -t overlay o -o {options}{',userxattr' if user else ''} {base}/l"
    words = ["unshare", "--mount", *(["--map-root-user"] if user else []), "sh", "-c", mount]
    try:
        done = subprocess.run(
            words, user=user, group=user, extra_groups=[], capture_output=True, text=True
        )
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture(params=["root", "user"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if os.geteuid() != 0:
        pytest.skip("only root can be both")
    base = Path(tempfile.mkdtemp(prefix="dct-private-tree-"))
    base.chmod(0o755)
    user = NOBODY if request.param == "user" else 0
    try:
        if said := refusal(base, user):
            pytest.skip(f"this kernel does not allow it: {said}")
        yield Scene(base, user)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def as_user(user: int, deed: Callable[[], Any]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(user)
            os.setuid(user)
            deed()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def listed(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_what_one_writes_no_other_sees(scene: Scene) -> None:
    # Given
    def deed() -> list[str]:
        Path("code.py").write_text("X = 2\n")
        Path("media").mkdir()
        Path("media/upload.txt").touch()
        return listed(scene.root)

    # When
    one, other = scene.inside(deed), scene.inside(lambda: listed(scene.root))
    # Then
    assert one == ["app", "app/code.py", "app/media", "app/media/upload.txt"]
    assert other == listed(scene.root) == ["app", "app/code.py"]
    assert (scene.root / "app" / "code.py").read_text() == "X = 1\n"


def test_what_it_removes_stays_for_the_others(scene: Scene) -> None:
    # When
    left = scene.inside(lambda: shutil.rmtree("../app") or listed(scene.root))
    # Then
    assert left == []
    assert listed(scene.root) == ["app", "app/code.py"]


def test_what_an_import_has_made_in_the_temporary_folder_each_has_for_itself(
    scene: Scene,
) -> None:
    # Given
    def deed() -> list[str]:
        (scene.temporary / "made" / "index").write_text("x")
        (scene.temporary / "new").touch()
        return listed(scene.temporary)

    # When
    first, second = scene.inside(deed), scene.inside(deed)
    scene.inside(lambda: shutil.rmtree(scene.temporary / "made"))
    # Then
    assert first == second == ["made", "made/index", "new"]
    assert listed(scene.temporary) == ["made"]


def test_directory_and_imports_are_those_of_its_own_view(scene: Scene) -> None:
    # Given
    def deed() -> list[Any]:
        sys.path.insert(0, str(scene.root / "app"))
        sys.dont_write_bytecode = True
        (scene.root / "app" / "late.py").write_text("Y = 3\n")
        late: Any = __import__("late")
        return [os.getcwd(), os.listdir("."), late.Y, os.path.samefile(".", scene.root / "app")]

    # Then
    here, names, late, same = scene.inside(deed)
    assert (here, sorted(names)) == (str(scene.root / "app"), ["code.py", "late.py"])
    assert (late, same) == (3, True)


def test_its_children_share_its_view(scene: Scene) -> None:
    # Given
    def deed() -> str:
        Path("mine.txt").write_text("x")
        return os.popen("ls").read()

    # Then
    assert scene.inside(deed) == "code.py\nmine.txt\n"


def test_it_stays_who_it_was_and_gets_no_rights(scene: Scene) -> None:
    # Given
    def deed() -> list[Any]:
        Path("secret").write_text("x")
        Path("secret").chmod(0)
        try:
            Path("secret").read_text()
            read = True
        except PermissionError:
            read = False
        return [os.getuid(), os.getgid(), Path("code.py").stat().st_uid, read]

    # Then: root may read what nobody may
    user = scene.user
    assert scene.inside(deed) == [user, user, user, user == 0]


def test_a_layer_on_an_overlay_is_held_in_memory(scene: Scene) -> None:
    # Given a machine whose whole disk is an overlay, as in a container
    if scene.user:
        pytest.skip("a user cannot make one")
    below = {name: scene.base / name for name in ("lower", "upper", "work", "merged")}
    for folder in below.values():
        folder.mkdir()

    def deed() -> list[str]:
        inner = Scene(below["merged"], 0)
        return [
            str(inner.inside(lambda: Path("new").write_text("x") and listed(inner.root))),
            str(listed(inner.root)),
        ]

    def in_container() -> list[str]:
        options = f"lowerdir={below['lower']},upperdir={below['upper']},workdir={below['work']}"
        assert os.system(f"mount -t overlay overlay -o {options} {below['merged']}") == 0
        return deed()

    # When
    inside, outside = scene.inside(in_container)
    # Then
    assert inside == "['app', 'app/code.py', 'app/new']"
    assert outside == "['app', 'app/code.py']"


def test_nothing_is_left_of_one_that_is_killed(scene: Scene) -> None:
    # Given
    folder = RunFolder(scene.base / "run")
    folder.create()
    fork = folder.fork_folder("0")
    layer = folder.layer(fork)
    for path in (folder.path, folder.path / "slots", fork, layer):
        path.chmod(0o755)
        os.chown(path, scene.user, scene.user)

    def deed() -> None:
        Path("upload.bin").write_bytes(bytes(1000))
        shutil.rmtree("../app", ignore_errors=True)
        time.sleep(60)

    pid, inbox = scene.start(deed, layer)
    deadline = time.monotonic() + 20
    while not list(layer.glob("upper/app*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    # When
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(inbox)
    as_user(scene.user, lambda: folder.remove_layer(fork))
    # Then
    assert not layer.exists()
    assert str(scene.root) not in Path("/proc/self/mountinfo").read_text()
    assert listed(scene.root) == ["app", "app/code.py"]


def test_what_the_kernel_refuses_is_said_and_the_tree_is_the_common_one(tmp_path: Path) -> None:
    # Given
    layer = tmp_path / "layer"
    layer.mkdir()
    # When
    why = private_tree.why_not(str(tmp_path / "nowhere"), str(layer))
    # Then
    assert why
    assert "\n" not in why


def test_it_costs_a_few_milliseconds(scene: Scene) -> None:
    # Then: half of one on a quiet machine; this is a bound that a busy one keeps
    assert min(scene.inside(lambda: scene.seconds) for _ in range(20)) < 0.02
