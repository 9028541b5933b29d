"""Plugins of pytest that Django projects use, and how each is proved to work on several machines.

They are not in the environment of our own tests, but in the folder `INSTALLED`, and a run has only
those that its words name. `python -m tests.pytest_plugins` runs each by itself and prints a table;
`tests/acceptance/test_pytest_plugins.py` runs most of them at once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import unescape
from pathlib import Path
from typing import Any

from tests.support.fleet import Fleet
from tests.support.pytest_runs import PytestRun, differences, distributed, sequential, stable

#: Made by deploy/test, from the group `plugins` of pyproject.toml.
INSTALLED = Path(__file__).parents[2] / ".cache" / "pytest-plugins" / "site-packages"
PROJECT = Path(__file__).parents[1] / "pytest_torture" / "plugins"
#: Of every process that is to find them.
ENVIRONMENT = {"PYTHONPATH": str(INSTALLED), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
#: Report that says which worker has run which test.
SLOTS = "slots.json"
#: In every run, as these are there wherever pytest is distributed.
_ALWAYS = ("xdist",)


@dataclass(frozen=True)
class Plugin:
    """One plugin, or several that belong together, and tests that use it."""

    #: Of its distribution.
    name: str
    #: What `-p` names: its entry points, whose names it has where it is found by itself.
    modules: tuple[str, ...]
    #: Tests and options.
    words: tuple[str, ...]
    #: File that it writes -> what two runs must have in common of it.
    files: Mapping[str, Callable[[str], object]] = field(default_factory=dict)
    #: What two runs must have in common of what it prints.
    printed: Callable[[str], object] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    #: It wants a PostgreSQL, for which the words of `both` have the place.
    postgres: bool = False


def words_of(plugins: Iterable[Plugin]) -> list[str]:
    """The command line for a run with these plugins alone."""
    found = list(plugins)
    modules = dict.fromkeys((*_ALWAYS, *(name for one in found for name in one.modules)))
    words = dict.fromkeys(word for one in found for word in one.words)
    return [*(part for name in modules for part in ("-p", name)), *words]


def workers_of(project: Path) -> set[str]:
    """Workers that have had tests in the last run of `both`."""
    report = json.loads((project / SLOTS).read_text())
    return {test["worker"] for test in report["tests"] if test["worker"]}


def start_workers(fleet: Fleet) -> None:
    """Two of one slot each that find the plugins."""
    for name in ("build-a", "build-b"):
        fleet.worker(name, slots=1, wait=True, app="dct_celery", host=list, **ENVIRONMENT)


def copy_of_project(place: Path) -> Path:
    """A copy that runs may write into."""
    return Path(shutil.copytree(PROJECT, place))


def multiplied(plugin: Plugin, project: Path, times: int) -> Plugin:
    """The same with each of its files several times: enough tests for more than one worker."""
    words = list(plugin.words)
    for word in plugin.words:
        if not word.endswith(".py"):
            continue
        stem = word.removesuffix(".py")
        for number in range(2, times + 1):
            copy = f"{stem}_{number}"
            for name in ("{}.py", "__snapshots__/{}.ambr", "cassettes/{}"):
                source, target = project / name.format(stem), project / name.format(copy)
                if source.is_dir():
                    shutil.copytree(source, target, dirs_exist_ok=True)
                elif source.exists():
                    shutil.copyfile(source, target)
            words.insert(words.index(word) + 1, f"{copy}.py")
    return replace(plugin, words=tuple(words))


def written(project: Path, plugins: Iterable[Plugin]) -> dict[str, object]:
    """What the plugins have written, as far as two runs must have it in common; it is removed."""
    files = {name: common for plugin in plugins for name, common in plugin.files.items()}
    found: dict[str, object] = {}
    for name, common in files.items():
        path = project / name
        found[name] = common(path.read_text()) if path.exists() else None
        path.unlink(missing_ok=True)
    return found


# -- what two runs have in common ------------------------------------------------------------


#: What a record of the log says of its time and process.
_LOGGED = ("created", "msecs", "relativeCreated", "process", "thread")


def _unlike(there: Any, here: Any, place: str = "") -> list[str]:
    """Where two values differ: the path to it, and both."""
    if isinstance(there, dict) and isinstance(here, dict) and there.keys() == here.keys():
        return [line for key in there for line in _unlike(there[key], here[key], f"{place}/{key}")]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = enumerate(zip(there, here, strict=True))
        return [line for n, pair in pairs for line in _unlike(*pair, f"{place}/{n}")]
    return [] if there == here else [f"{place}: {here!r:.500} instead of {there!r:.500}"]


def _json_report(text: str) -> object:
    data = json.loads(text)
    for name in ("created", "duration", "root", "environment", "collectors"):
        data.pop(name, None)
    return _without(data, {"duration", *_LOGGED})


def _ctrf(text: str) -> object:
    data = json.loads(text)["results"]
    return _without(
        data, {"start", "stop", "duration", "worker", "extra", "id", "timestamp", "environment"}
    )


def _html(text: str) -> object:
    """The rows of the report, and its environment."""
    found = re.search(r'data-jsonblob="([^"]*)"', text)
    assert found is not None
    data = json.loads(unescape(found[1]))
    for name in ("JAVA_HOME", "Plugins"):
        data["environment"].pop(name, None)
    return _without(data, {"duration", "durationFormatted", "resultsTableRow"})


def _report_log(text: str) -> object:
    """Reports of tests. Those of collectors that passed are not in a distributed run's."""
    kept = []
    for line in text.splitlines():
        data = json.loads(line)
        if data["$report_type"] in ("TestReport", "WarningMessage", "SessionFinish"):
            kept.append(data)
    ours = {"start", "stop", "duration", "worker_id", "testrun_uid", "item_index"}
    return _without(kept, {*ours, *_LOGGED})


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, names) for key, one in value.items() if key not in names}
    if isinstance(value, list):
        return [_without(one, names) for one in value]
    return stable(value) if isinstance(value, str) else value


def _section(title: str) -> Callable[[str], object]:
    """Lines below this title, to the next one, without numbers."""

    def lines(out: str) -> list[str]:
        _, _, rest = out.partition(title)
        assert rest, f"no section {title!r} in\n{out}"
        found = re.split(r"\n[=-]{5,}.* .*[=-]{5,}\n", rest, maxsplit=1)[0].splitlines()[1:]
        return [re.sub(r"[\d.]+", "N", line).rstrip() for line in map(stable, found)]

    return lines


def _lines(start: str) -> Callable[[str], object]:
    def lines(out: str) -> list[str]:
        return [stable(line) for line in out.splitlines() if line.startswith(start)]

    return lines


def _durations(out: str) -> object:
    """Which fixtures and phases of tests were measured, and how often: the seconds vary."""
    found = re.findall(r"^=+ (.* duration top) =+$|^\d:\S+ +(\S.*?) +(\d+) +\d:", out, re.MULTILINE)
    kept: dict[str, list[str]] = {}
    title = ""
    for head, name, count in found:
        title = head or title
        kept.setdefault(title, [])
        if name.startswith("test_durations.py"):
            kept[title].append(f"{name} {count}")
    return {title: sorted(names) for title, names in kept.items()}


def _slowest(out: str) -> object:
    """Phases of tests in the list of --durations: the seconds, and so the order, vary."""
    return sorted(re.findall(r"^\d+\.\d+s (\w+) +(\S.*)$", out, re.MULTILINE))


# -- the plugins -----------------------------------------------------------------------------

PLUGINS = (
    Plugin(
        "pytest --durations",
        (),
        ("test_reported.py", "--durations=0", "--durations-min=0"),
        printed=_slowest,
    ),
    Plugin("pytest-mock", ("pytest_mock",), ("test_mock.py",)),
    Plugin("pytest-asyncio", ("asyncio",), ("test_asyncio.py",)),
    Plugin("anyio", ("anyio",), ("test_anyio.py",)),
    Plugin("pytest-rerunfailures", ("rerunfailures",), ("test_rerunfailures.py",)),
    Plugin(
        "pytest-retry",
        ("pytest-retry",),
        ("test_retry.py",),
        printed=_section(" the following tests were retried "),
    ),
    Plugin("pytest-timeout", ("timeout",), ("test_timeout.py",)),
    Plugin("pytest-env", ("env",), ("test_env.py", "--override-ini=env=SHELF=oak")),
    Plugin(
        "pytest-sugar",
        ("sugar",),
        ("test_reported.py", "--force-sugar"),
        printed=lambda out: sorted(
            line.strip() for line in stable(out.partition("Results (")[2]).splitlines()[1:]
        ),
    ),
    Plugin("pytest-randomly", ("randomly",), ("test_random.py", "--randomly-seed=7")),
    Plugin(
        "pytest-random-order",
        ("random_order",),
        ("test_random.py", "--random-order-seed=7", "--random-order-bucket=class"),
    ),
    Plugin("pytest-order", ("pytest_order",), ("test_order.py", "test_order_too.py")),
    Plugin(
        "pytest-dependency",
        ("dependency",),
        ("test_dependency.py", "test_dependency_too.py"),
    ),
    Plugin("pytest-socket", ("pytest_socket",), ("test_socket.py",)),
    Plugin(
        "pytest-split",
        ("pytest-split",),
        ("test_reported.py", "test_random.py", "--splits=2", "--group=2"),
    ),
    Plugin(
        "pytest-json-report",
        ("pytest_jsonreport", "metadata"),
        ("test_reported.py", "test_json_report.py", "--json-report",
         "--json-report-file=report.json"),
        {"report.json": _json_report},
    ),
    Plugin(
        "pytest-json-ctrf",
        ("ctrf",),
        ("test_reported.py", "--ctrf=ctrf.json"),
        {"ctrf.json": _ctrf},
    ),
    Plugin(
        "pytest-html",
        ("pytest_html.plugin", "html_fixtures", "metadata"),
        ("test_reported.py", "test_html.py", "--html=report.html", "--self-contained-html"),
        {"report.html": _html},
    ),
    Plugin(
        "pytest-metadata",
        ("metadata", "pytest_html.plugin", "html_fixtures"),
        ("test_metadata.py", "--metadata", "who", "me", "--html=report.html",
         "--self-contained-html"),
        {"report.html": _html},
    ),
    Plugin(
        "pytest-durations",
        ("pytest-durations",),
        ("test_durations.py", "--pytest-durations=5000", "--pytest-durations-min=0"),
        printed=_durations,
    ),
    Plugin(
        "syrupy",
        ("syrupy",),
        ("test_syrupy.py", "-vv"),
        printed=_section(" snapshot report summary "),
    ),
    Plugin("pytest-recording", ("recording",), ("test_recording.py",)),
    Plugin("pytest-benchmark", ("benchmark",), ("test_benchmark.py",)),
    Plugin("pytest-factoryboy", ("pytest-factoryboy",), ("test_factoryboy.py",)),
    Plugin(
        "freezegun, time-machine, pytest-freezer",
        ("freezer", "time_machine"),
        ("test_time.py",),
    ),
    Plugin(
        "pytest-flakefinder",
        ("flakefinder", "pytest-factoryboy"),
        ("test_cases.py", "test_factoryboy.py", "--flake-finder", "--flake-runs=3"),
    ),
    Plugin(
        "pytest-reportlog",
        ("pytest_reportlog",),
        ("test_reported.py", "--report-log=log.jsonl"),
        {"log.jsonl": _report_log},
    ),
    Plugin(
        "pytest-instafail",
        ("instafail",),
        ("test_reported.py", "--instafail"),
        printed=lambda out: _lines("E ")(out),
    ),
    Plugin(
        "pytest-github-actions-annotate-failures",
        ("pytest_github_actions_annotate_failures",),
        ("test_reported.py",),
        printed=_lines("::"),
        environment={"GITHUB_ACTIONS": "true"},
    ),
    Plugin(
        "pytest-postgresql",
        ("pytest_postgresql", "shelf_postgresql"),
        ("test_postgresql.py",),
        postgres=True,
    ),
    Plugin("allure-pytest", ("allure_pytest",), ("test_allure.py", "--alluredir=allure")),
)  # fmt: skip


def both(
    pool: Fleet, plugins: Iterable[Plugin], project: Path, *more: str, seconds: float = 0.0
) -> tuple[PytestRun, list[str]]:
    """The distributed run with these plugins, and what is not as in the sequential one.

    `more`: words; `seconds`: that each test takes at least.
    """
    chosen = list(plugins)
    words = [*words_of(chosen), *more]
    environment = {**ENVIRONMENT, "TORTURE_SECONDS": str(seconds)}
    for plugin in chosen:
        environment |= plugin.environment
    expected = sequential(project, *words, **environment)
    files = written(project, chosen)
    own = ("-p", "dct_celery.pytest_plugin", "--dct-json", str(project / SLOTS))
    environment["DCT_CHUNK_SECONDS"] = "0.1"
    found = distributed(pool, project, *own, *words, **environment)
    different = differences(expected, found)
    for plugin in chosen:
        if plugin.printed is not None:
            there, here = (plugin.printed(run.out + run.err) for run in (expected, found))
            different += [f"{plugin.name} prints {line}" for line in _unlike(there, here)]
    for name, common in written(project, chosen).items():
        different += [f"{name}: {line}" for line in _unlike(files[name], common)]
        if common is None:
            different.append(f"{name} was not written")
    return found, different


def named(*names: str) -> Iterator[Plugin]:
    """Those whose name begins so."""
    for name in names:
        found = [plugin for plugin in PLUGINS if plugin.name.startswith(name)]
        assert len(found) == 1, name
        yield found[0]


def missing() -> str:
    """Why the plugins cannot be used; empty where they can."""
    if os.path.isdir(INSTALLED):
        return ""
    return f"{INSTALLED} is missing; deploy/test makes it"
