"""A view of the tree that belongs to one test process: what it writes there, nobody else sees.

Slots of one worker run the same tree, and tests write into it: uploads below MEDIA_ROOT, a log, a
cache. So each fork mounts an overlay on the tree, in a mount namespace of its own: reads come from
the tree, writes go into a folder of the slot. The mount ends with the last process of the fork,
however that dies; the worker removes the folder.

So it is with the temporary folder of the loader: settings and modules make folders there while they
are imported (MEDIA_ROOT, a search index), and all forks know them by the same path.

An ordinary user needs a user namespace for that. It keeps the user's id, and gives no rights: what
it needs to mount is given up afterwards. Root without the right to mount takes none, since it could
no longer give files to other users.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_RECURSIVE, _PRIVATE = 0x4000, 1 << 18
#: Version of the structures that capset takes.
_CAPABILITIES = 0x20080522
#: The part of a layer that belongs to the temporary folder.
TEMPORARY = "tmp"


class Refused(Exception):
    """The kernel does not allow it. In one line, why."""


def why_not(root: str, layer: str, temporary: str = "") -> str:
    """Tries it in a child of its own, as a process in which it fails half way is spoilt.

    Returns "", or why `enter` would fail here.
    """
    inbox, outbox = os.pipe()
    child = os.fork()
    if child == 0:
        said = "it failed"
        try:
            enter(root, layer, temporary)
            said = ""
        except Refused as refused:
            said = str(refused)
        finally:
            os.write(outbox, said.encode())
            os._exit(0)
    os.close(outbox)
    with open(inbox, encoding="utf-8", errors="replace") as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def enter(root: str, layer: str, temporary: str = "") -> None:
    """From now on, this process and its children have the tree `root` for themselves.

    `layer`: an empty folder outside of it, for what they write. `temporary`: a folder of the loader
    that they have for themselves, too, or empty. Only for a process with a single thread. Raises
    Refused; then the tree is the one that all see.
    """
    libc, here = ctypes.CDLL(None, use_errno=True), os.getcwd()
    by_user = os.geteuid() != 0
    if by_user:
        identity = os.geteuid(), os.getegid()
        _call("unshare", libc.unshare, _NEW_MOUNTS | _NEW_USERS)
        _keep_identity(*identity)
    else:
        _call("unshare", libc.unshare, _NEW_MOUNTS)
    # What is mounted from now on does not spread to other processes.
    _call("mount", libc.mount, b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    _mount(libc, root, layer, by_user=by_user)
    if temporary:
        _mount(libc, temporary, f"{layer}/{TEMPORARY}", by_user=by_user)
    if by_user:
        _give_up_rights(libc)
    os.chdir(here)  # the same path, now on the overlay


def _keep_identity(user: int, group: int) -> None:
    """Makes the user and group in the new namespace those outside of it."""
    try:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        raise Refused(f"/proc/self/uid_map: {error.strerror}") from error


def _mount(libc: Any, root: str, layer: str, *, by_user: bool) -> None:
    """Mounts the overlay; in memory where the layer's file system cannot hold what is written."""
    try:
        _overlay(libc, root, layer, by_user=by_user)
    except Refused:
        _call("mount", libc.mount, b"tmpfs", os.fsencode(layer), b"tmpfs", 0, b"mode=0700")
        _overlay(libc, root, layer, by_user=by_user)


def _overlay(libc: Any, root: str, layer: str, *, by_user: bool) -> None:
    for name in ("upper", "work"):
        os.makedirs(f"{layer}/{name}", mode=0o700, exist_ok=True)
    os.chmod(f"{layer}/upper", os.stat(root).st_mode & 0o7777)
    # Where it may, the overlay lets folders of the tree be renamed.
    extra = "userxattr" if by_user else "redirect_dir=on"
    options = (
        f"lowerdir={_quoted(root)},upperdir={_quoted(layer)}/upper,workdir={_quoted(layer)}/work"
    )
    _call(
        "mount",
        libc.mount,
        b"overlay",
        os.fsencode(root),
        b"overlay",
        0,
        os.fsencode(f"{options},{extra}"),
    )


def _quoted(path: str) -> str:
    """The path as an option of the overlay."""
    for sign in "\\,:":
        path = path.replace(sign, f"\\{sign}")
    return path


def _give_up_rights(libc: Any) -> None:
    """Gives up all capabilities: with them, tests could read files whose mode forbids it."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _call("capset", libc.capset, header, nothing)


def _call(name: str, function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        raise Refused(f"{name}: {os.strerror(ctypes.get_errno())}")
