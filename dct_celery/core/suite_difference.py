"""Where two processes have built different suites from the same code, and the likely cause.

A test is (id, class, phase), as in `core.model.manifest_digest`. Names that are made from a uuid, a
random value, the time or an object's address are others in each process, so no two of them agree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from dct_celery.core.text import cut

Identity = tuple[str, str, str]
NOTHING: Mapping[str, str] = {}
#: Before the name of a module in the id of the test that stands for it.
_STANDS_FOR = "unittest.loader._FailedTest."

#: What in a name may differ between two processes -> what it is. The first that explains all of the
#: difference counts. Names of parameters have "_" where the value had another sign.
_PARTS = (
    (r"[0-9a-fA-F]{8}(?:[-_]?[0-9a-fA-F]{4}){3}[-_]?[0-9a-fA-F]{12}", "a uuid"),
    (r"0x[0-9a-fA-F]+", "the address of an object, as in its repr,"),
    (r"\d{4}[-_]\d\d[-_]\d\d(?:[T_ ]\d\d[:_]\d\d(?:[:_]\d\d)?)?[\d._+:-]*", "a date or time"),
    (r"\d+(?:[._]\d+)?", "a number (random, a time, a process id)"),
    (r"(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{6,}", "a random value or hash"),
)
_FIX = "names must be the same in every process: give such tests fixed names, or seed the values"
_PATH = (
    "the path of the project's folder is part of the name; it is another one on each machine: make"
    " names from paths relative to the project"
)
#: Longest name that is shown, in characters.
_LENGTH = 200


def explained(
    there: Sequence[Identity],
    here: Sequence[Identity],
    root: str = "",
    unimported: Mapping[str, str] = NOTHING,
) -> str:
    """One sentence: the first test that differs, with both names, and why.

    `there` is the dispatcher's suite, `here` the worker's, loaded from the code in `root`.
    `unimported`: id of a test that stands for a module -> why the worker cannot import that.
    """
    known = {name for name, _, _ in there}
    if missed := [name for name in unimported if name not in known]:
        module = missed[0].removeprefix(_STANDS_FOR)
        return f"{cut(module, _LENGTH)} cannot be imported on the worker: {unimported[missed[0]]}"
    pairs = zip_longest(there, here)
    place, (a, b) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
    names = f"test {place + 1} is {_named(a, b)} on the dispatcher and {_named(b, a)} on the worker"
    if a is not None and b is not None and _has_path(b[0], root) and not _has_path(a[0], root):
        return f"{names}: {_PATH}"
    return f"{names}: {_cause(a, b, there, here)}"


def _has_path(name: str, path: str) -> bool:
    """Whether the path is in the name, with whatever signs between its letters and digits."""
    parts = re.findall(r"[A-Za-z0-9]+", path)
    return bool(parts) and re.search(r"[^A-Za-z0-9]+".join(parts), name) is not None


def _named(one: Identity | None, other: Identity | None) -> str:
    if one is None:
        return "missing"
    name = cut(one[0], _LENGTH)
    if other is None or one[0] != other[0]:
        return name
    return f"{name} of class {cut(one[1], _LENGTH)} ({one[2]})"


def _cause(
    a: Identity | None, b: Identity | None, there: Sequence[Identity], here: Sequence[Identity]
) -> str:
    counts = Counter(there), Counter(here)
    if counts[0] == counts[1]:
        return (
            "it is the same tests in another order, perhaps that of a set or of a folder's listing;"
            " sort what they are made from"
        )
    if a is not None and b is not None and (part := _part(a[0], b[0])):
        return f"{part} is part of the name; {_FIX}"
    lacks = [
        side
        for side, one, tests in (("worker", a, counts[1]), ("dispatcher", b, counts[0]))
        if one is not None and one not in tests
    ]
    if len(lacks) == 1:
        return (
            f"the {lacks[0]} has no such test; does collection depend on files, variables, packages"
            " or a database?"
        )
    return f"does the name depend on the process, on its time, or on the machine? {_FIX}"


def _part(a: str, b: str) -> str:
    """What part of the names differs; empty if none of the known ones explains it."""
    for pattern, what in _PARTS:
        if re.sub(pattern, "", a) == re.sub(pattern, "", b):
            return what
    return ""
