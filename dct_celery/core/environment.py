"""What decides verdicts beside the code, and what of it differs between two machines.

A loaded project describes its environment by facts, texts by name:

    python, implementation, platform, flags     the interpreter
    setting:NAME                                 a setting of the project
    package:NAME                                 version of each installed distribution
    loaded, declared                             those of them that the project has imported, and
                                                 those that its requirements name: "django,psycopg"
    variable:NAME, address:NAME                  a variable that the project read while it was
                                                 imported: UNSET, or a keyed hash of its value;
                                                 "address" where it leads to a database

A distribution decides verdicts if the project loads it. Any other may be missing on either side,
and may have any version unless the requirements name it. Addresses may differ: each machine has its
own way to the database.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

PACKAGE, VARIABLE, ADDRESS = "package:", "variable:", "address:"
LOADED, DECLARED = "loaded", "declared"
#: Value of a variable that was read and not set.
UNSET = "unset"
#: Instead of a hash: the value is that of a file in the tree, or another one in each process.
WRITTEN = "set by the project"
#: Distributions whose version cannot change a verdict.
TOOLS = frozenset({"pip", "setuptools", "wheel", "uv", "dct-celery"})
#: How many differences a message names.
_NAMED = 5
_SEPARATORS = re.compile(r"[-_.]+")

Facts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ignored:
    """What may differ: globs over names of distributions and of variables."""

    packages: Sequence[str] = ()
    variables: Sequence[str] = ()

    def has_package(self, name: str) -> bool:
        return name in TOOLS or any(fnmatchcase(name, normal(glob)) for glob in self.packages)

    def has_variable(self, name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in self.variables)


@dataclass(frozen=True, slots=True)
class Difference:
    """`text` names it with both sides; `fix` says what to do about its kind."""

    text: str
    fix: str


def normal(name: str) -> str:
    """The name of a distribution as pip compares it."""
    return _SEPARATORS.sub("-", name).lower()


def joined(names: Iterable[str]) -> str:
    """The value of LOADED and DECLARED."""
    return ",".join(sorted(set(names)))


def fingerprint(key: str, *texts: str) -> str:
    """A hash that tells nothing about the texts to anybody who lacks the key."""
    message = "\0".join(texts).encode("utf-8", "surrogateescape")
    return hmac.digest(key.encode(), message, "sha256")[:12].hex()


def of_machine(
    there: Facts, facts: Facts, variables: Mapping[str, str], key: str, passed_on: Collection[str]
) -> dict[str, str]:
    """What the facts of a worker will be, as far as that is known before it has loaded the project.

    `there`: those of the project as it is loaded here. `facts`: of the worker's interpreter and
    packages. `variables`: fingerprint of a name -> of name and value. `passed_on`: names that tests
    get from here.
    """
    known = {name: value for name, value in facts.items() if name != "flags"}
    settings = {
        name: value
        for name, value in there.items()
        if name.startswith("setting:") or name == "flags"
    }
    read = {}
    for fact, value in there.items():
        name = fact.partition(":")[2]
        if fact.startswith((VARIABLE, ADDRESS)):
            own = variables.get(fingerprint(key, name), UNSET)
            same = value == WRITTEN or (name in passed_on and value != UNSET)
            read[fact] = value if same else own
    return {**known, **settings, **read}


def differences(there: Facts, here: Facts, ignored: Ignored) -> list[Difference]:
    """What decides verdicts and differs between the dispatcher (`there`) and a worker (`here`)."""
    addresses = {key.removeprefix(ADDRESS) for key in (*there, *here) if key.startswith(ADDRESS)}
    variables = (name for name in _differing_variables(there, here, ignored))
    return [
        *_packages(there, here, ignored),
        *_others(there, here),
        *(_variable(name, there, here) for name in variables if name not in addresses),
    ]


def hints(there: Facts, here: Facts, ignored: Ignored) -> list[Difference]:
    """The same for a worker that cannot reach a database: the variables that lead there count."""
    found = _differing_variables(there, here, ignored)
    return [_variable(name, there, here) for name in found]


def summary(found: Sequence[Difference]) -> Difference:
    """All of them as one: the first few by name, and what to do about each kind."""
    named = found[:_NAMED]
    texts = "; ".join(one.text for one in named)
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return Difference(f"{texts}{more}", "; ".join(dict.fromkeys(one.fix for one in named)))


def told(found: Sequence[Difference]) -> str:
    """The summary in one line."""
    one = summary(found)
    return f"{one.text} ({one.fix})"


def _others(there: Facts, here: Facts) -> Iterator[Difference]:
    """What has no rule of its own must be equal."""
    own_rule = (PACKAGE, VARIABLE, ADDRESS, LOADED, DECLARED)
    for name in sorted(name for name in {*there, *here} if not name.startswith(own_rule)):
        if there.get(name) != here.get(name):
            kind, _, rest = name.rpartition(":")
            said = _said(rest, there.get(name), here.get(name))
            what = "settings" if kind == "setting" else "interpreter"
            yield Difference(said, f"use the same {what} on both sides")


def _packages(there: Facts, here: Facts, ignored: Ignored) -> Iterator[Difference]:
    loaded = _names(there, LOADED) | _names(here, LOADED)
    for name in sorted(loaded | _names(there, DECLARED) | _names(here, DECLARED)):
        versions = there.get(f"{PACKAGE}{name}"), here.get(f"{PACKAGE}{name}")
        same = versions[0] == versions[1] or (None in versions and name not in loaded)
        if not same and not ignored.has_package(name):
            fix = "install the same versions, or --ignore-package NAME"
            yield Difference(_said(name, *versions), fix)


def _names(facts: Facts, fact: str) -> set[str]:
    return set(filter(None, facts.get(fact, "").split(",")))


def _said(name: str, there: str | None, here: str | None) -> str:
    return f"{name} is {here or 'missing'} on the worker and {there or 'missing'} on the dispatcher"


def _differing_variables(there: Facts, here: Facts, ignored: Ignored) -> list[str]:
    """Those that both sides read. One that a single side reads shows that it took another branch,
    for a reason that is named itself.
    """
    read = {key.partition(":")[2] for key in (*there, *here) if key.startswith((VARIABLE, ADDRESS))}
    return sorted(
        name
        for name in read
        if not ignored.has_variable(name)
        and None not in (pair := (_value(there, name), _value(here, name)))
        and pair[0] != pair[1]
    )


def _value(facts: Facts, name: str) -> str | None:
    return facts.get(f"{VARIABLE}{name}", facts.get(f"{ADDRESS}{name}"))


def _variable(name: str, there: Facts, here: Facts) -> Difference:
    way_out = f"--env {name} passes it to the tests"
    if _value(here, name) == UNSET:
        state = "is set on the dispatcher and not on the worker"
    elif _value(there, name) == UNSET:
        state = "is set on the worker and not on the dispatcher"
        way_out = "unset it there, or set it here"
    else:
        state = "has another value on the worker"
    return Difference(
        f"the variable {name}, which the project reads, {state}",
        f"{way_out}; --ignore-env {name} lets it differ",
    )
