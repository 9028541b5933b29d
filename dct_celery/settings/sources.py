"""Where the value of a setting comes from.

Precedence: flag > `DCT_*` variable (or `DCT_*_FILE` for secrets), or another variable of that
meaning > `[tool.dct]` in the nearest pyproject.toml that has it > the project's own settings >
default. A variable that is set but empty counts as not set. `load` is called once, at the entry
point.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dct_celery.core import backends, command, projects
from dct_celery.core.address import AddressError, UnquotedError
from dct_celery.core.option import Option, accept, expected, shown
from dct_celery.errors import ConfigError
from dct_celery.security import masking
from dct_celery.settings.table import INTERNAL_VARIABLES, OPTIONS, Settings, respell


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was found, and where.

    With `text` the value is parsed; otherwise it must already have its type.
    """

    value: object
    origin: str
    text: bool = False


def load(
    flags: Mapping[str, object],
    *,
    env: Mapping[str, str],
    cwd: Path,
    project: Mapping[str, tuple[object, str]] = MappingProxyType({}),
) -> tuple[Settings, dict[str, str]]:
    """The settings and, by field, where each came from ("--pool", "DCT_POOL", "default", ...).

    `flags` holds what was given on the command line, by field name (None: not given), as text or
    typed; it may include `labels`. `project` holds (value, origin) of what the project's own
    settings say. Raises ConfigError for an unknown name, a bad value or an unreadable file, and
    TypeError for an unknown flag. From here on `masking.PROCESS` knows the
    secrets of settings and environment.
    """
    if unknown := set(flags) - {option.name for option in OPTIONS} - {"labels"}:
        raise TypeError(f"not a setting: {', '.join(sorted(unknown))}")
    masking.PROCESS.learn(masking.secrets_of_environment(env))
    layers = (
        _from_flags(flags),
        _from_environment(env, cwd),
        _from_pyproject(cwd),
        {name: _Given(*given, text=isinstance(given[0], str)) for name, given in project.items()},
    )
    labels: Any = flags.get("labels") or ()
    labels = (labels,) if isinstance(labels, str) else labels
    values: dict[str, Any] = {"labels": tuple(labels), "project_dir": str(cwd.absolute())}
    origins = {
        "labels": "command line" if values["labels"] else "default",
        "project_dir": "current folder",
    }
    for option in OPTIONS:
        given = next((layer[option.name] for layer in layers if option.name in layer), None)
        values[option.name] = (
            option.default if given is None else _value(option, given, env.get("HOME", "~"))
        )
        origins[option.name] = "default" if given is None else given.origin
    if not values["broker"]:
        origins["broker"] = "same as store"
    if origins["backend"] == "default" and (choice := _recognised(values, origins, cwd)):
        values["backend"], origins["backend"] = choice.backend, choice.origin
    values["store"] = respell(values["store"], "unix")
    values["broker"] = respell(values["broker"], "redis+socket")
    settings = Settings(**values)
    if settings.max_slots is not None and settings.min_slots > settings.max_slots:
        raise ConfigError(
            f"{origins['min_slots']}: {settings.min_slots} is more than {settings.max_slots}"
            f" ({origins['max_slots']}); give one that is not"
        )
    masking.PROCESS.learn(settings.secrets())
    return settings, origins


def _recognised(
    values: Mapping[str, Any], origins: Mapping[str, str], cwd: Path
) -> projects.Choice | None:
    """The backend that the project's files are for; None if they leave no doubt."""
    djangos = (name for name in backends.DJANGOS_OPTIONS if origins[name] != "default")
    return projects.choose(
        _pytest_config(values["labels"], cwd),
        has_manage=(cwd / command.MANAGE[0]).is_file(),
        own_command=values["command"],
        djangos=next((origins[name] for name in djangos), None),
    )


def _pytest_config(labels: Iterable[str], cwd: Path) -> projects.PytestConfig | None:
    """As pytest finds it: from the folder that holds all that is selected upwards, but not further
    than the tree that is sent.
    """
    paths = (cwd / label.partition("::")[0] for label in labels if label[:1] not in ("", "-"))
    named = [path.absolute() for path in paths if _exists(path)]
    start = Path(os.path.commonpath(named)) if named else cwd.absolute()
    start = start if start.is_dir() else start.parent
    above = (start, *start.parents)
    top = next((folder for folder in above if (folder / ".git").exists()), cwd.absolute())
    for folder in above:
        for name in projects.PYTEST_FILES:
            if (config := _read_config(folder / name, cwd)) is not None:
                return config
        if folder == top:
            break
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # it is no path at all
        return False


def _read_config(path: Path, cwd: Path) -> projects.PytestConfig | None:
    if not path.is_file():
        return None
    try:
        found = projects.pytest_config(path.name, path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"{os.path.relpath(path, cwd)} cannot be read ({_why(exc)}), so it is not known whether"
            " tests are pytest's; fix the file, or choose with --backend"
        ) from exc
    if found is None:
        return None
    folder = os.path.relpath(path.parent, cwd)
    place = os.path.join(folder, found.place).removeprefix("./")
    return replace(found, place=place, above=folder.startswith(".."))


def warnings_of(env: Mapping[str, str], cwd: Path) -> list[str]:
    """One line for each secret file that other users can read.

    Only regular files are checked: `/dev/fd/N` belongs to this process alone.
    """
    found: list[str] = []
    for option in OPTIONS:
        variable = option.variable + "_FILE"
        if option.secret and (name := env.get(variable)):
            found += _readable_by_others(variable, cwd / name)
    return found


def _readable_by_others(variable: str, path: Path) -> Iterator[str]:
    try:
        about = path.stat()
    except OSError:
        return
    if stat.S_ISREG(about.st_mode) and about.st_mode & 0o077:
        fix = (
            f"chmod 600 {path}"
            if about.st_uid == os.getuid()
            else "ask its owner to make it readable by this user alone"
        )
        yield f"{variable}: others can read {path} (mode {stat.S_IMODE(about.st_mode):04o}); {fix}"


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    found = ((option, flags.get(option.name)) for option in OPTIONS)
    return {
        option.name: _Given(
            value, max(option.flags, key=len, default=option.name), isinstance(value, str)
        )
        for option, value in found
        if value is not None
    }


def _from_environment(env: Mapping[str, str], cwd: Path) -> dict[str, _Given]:
    files = {option.variable + "_FILE" for option in OPTIONS if option.secret}
    known = {option.variable for option in OPTIONS} | files | INTERNAL_VARIABLES
    _refuse_unknown(
        (name for name in env if name.startswith("DCT_")), known, "{}: unknown variable"
    )
    found = {}
    for option in OPTIONS:
        if path := option.secret and env.get(option.variable + "_FILE"):
            found[option.name] = _Given(
                _secret(option, env, cwd / path), option.variable + "_FILE", text=True
            )
        elif value := env.get(option.variable):
            found[option.name] = _Given(value, option.variable, text=True)
        for alias in option.aliases:
            if env.get(alias.lstrip("!")):
                found[option.name] = _by_another_name(option, alias, env, found.get(option.name))
    return found


def _by_another_name(
    option: Option, alias: str, env: Mapping[str, str], known: _Given | None
) -> _Given:
    """The value of this variable; `known` is what variables before it say, which must be the same.

    Raises ConfigError.
    """
    variable = alias.lstrip("!")
    given = _Given(env[variable], variable, text=True)
    value = _value(option, given, env.get("HOME", "~"))
    if alias.startswith("!"):
        value = not value
        given = _Given(value, variable)
    if known is None:
        return given
    if _value(option, known, env.get("HOME", "~")) != value:
        raise ConfigError(
            f"{known.origin}={shown(option, known.value)} and {variable}="
            f"{shown(option, env[variable])} mean the same setting and differ; unset one of them"
        )
    return known


def _secret(option: Option, env: Mapping[str, str], path: Path) -> str:
    if env.get(option.variable):
        raise ConfigError(
            f"{option.variable} and {option.variable}_FILE are both set; unset one of them"
        )
    try:
        # Read once: a pipe (`/dev/fd/N`, process substitution) yields its content once.
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"{option.variable}_FILE: cannot read {path} ({_why(exc)});"
            " fix the path or its permissions"
        ) from exc
    if not text:
        fix = "dct keygen makes a key" if option.name == "signing_key" else "write the URL into it"
        raise ConfigError(f"{option.variable}_FILE: {path} is empty; {fix}")
    return text


def _from_pyproject(cwd: Path) -> dict[str, _Given]:
    for folder in (cwd.absolute(), *cwd.absolute().parents):
        path = folder / "pyproject.toml"
        if path.is_file() and (table := _table(path, os.path.relpath(path, cwd))) is not None:
            return _from_table(table, folder, cwd)
    return {}


def _table(path: Path, place: str) -> dict[str, object] | None:
    """The table [tool.dct] of the file, or None where it has none."""
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool")
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{place} cannot be read ({_why(exc)}); fix the file") from exc
    table = tool.get("dct") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"dct under [tool] in {place} is not a table; write [tool.dct]")
    return table


def _from_table(table: Mapping[str, object], folder: Path, cwd: Path) -> dict[str, _Given]:
    place = os.path.relpath(folder / "pyproject.toml", cwd)
    keys = {key.replace("_", "-"): key for key in table}
    _refuse_unknown(
        keys, {option.key for option in OPTIONS}, f"[tool.dct] {{}} in {place}: unknown key"
    )
    if len(keys) < len(table):
        raise ConfigError(f"[tool.dct] in {place} has a key twice, with - and with _; remove one")
    found = {}
    for option in OPTIONS:
        if key := keys.get(option.key):
            value = _rebase(option, table[key], folder, cwd)
            found[option.name] = _Given(value, f"[tool.dct] {key} in {place}")
    return found


def _rebase(option: Option, value: object, folder: Path, cwd: Path) -> object:
    """A path relative to the project folder; in the file it is relative to the file.

    The bare name of a program stays as it is and is looked up on PATH.
    """
    named = option.kind == "path" or (option.kind == "program" and "/" in str(value))
    if not named or not isinstance(value, str) or not value or value.startswith(("/", "~")):
        return value
    return os.path.relpath(folder / value, cwd)


def _refuse_unknown(names: Iterable[str], known: Iterable[str], text: str) -> None:
    # Compared without the prefix, which would make any two variables similar.
    plain = {name.lower().removeprefix("dct_"): name for name in known}
    for name in sorted(set(names).difference(plain.values())):
        close = difflib.get_close_matches(name.lower().removeprefix("dct_"), plain, 1)
        fix = f"did you mean {plain[close[0]]}?" if close else "see dct run --help"
        raise ConfigError(f"{text.replace('{}', name)}; {fix}")


def _value(option: Option, given: _Given, home: str) -> object:
    """The valid value in its type; raises ConfigError with origin, value and fix."""
    try:
        value = accept(option, given.value, text=given.text)
    except UnquotedError as exc:
        raise ConfigError(
            f"{given.origin}: '{str(given.value).partition('://')[0]}://**' {exc}"
        ) from None
    except AddressError as exc:
        raise ConfigError(f"{given.origin}: {shown(option, given.value)} {exc}") from None
    except ValueError as exc:
        raise ConfigError(
            f"{given.origin}: {shown(option, given.value)} is not valid; give {expected(option)}"
        ) from exc
    if option.kind in ("path", "program") and str(value).startswith("~/"):
        return home + str(value)[1:]
    return value


def _why(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
