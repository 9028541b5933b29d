# ruff: noqa: E501
"""docs/settings.md, made from the table of options: `python -m tests.support.settings_page`."""

from __future__ import annotations

from pathlib import Path

from dct_celery.cli.options import SECTIONS
from dct_celery.core.option import Option
from dct_celery.runner.project_settings import LOGGING, OLD
from dct_celery.settings import OPTIONS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
_HEAD = """# Settings

Each setting is a flag of `dct run` (most are also flags of `dct try`, `dct warm`, `dct replay`, `dct bisect`), a variable, and a key of
`[tool.dct]` in the nearest `pyproject.toml` that has this table. A flag wins over a variable, a variable over the file, and the file over
`CONCURRENT_TEST_CONFIG` in the Django settings, which `manage.py test` reads with
`TEST_RUNNER = "dct_celery.runner.ConcurrentTestRunner"`. `dct config` shows every value and where it comes from.

- In `[tool.dct]`, a key is the flag without its dashes (`test-timeout`, or `test_timeout`); values have TOML's types, lists are lists.
- In variables, lists are separated by commas. A variable that is set but empty counts as not set.
- A secret may stand in a file, which `DCT_STORE_FILE` and the like name: [security](security.md).
- Two names of one setting with different values are refused, whether variables or flags.
- Workers have variables alone.

This page is made from the table of options, which a test compares: `python -m tests.support.settings_page`.
"""
_TAIL = """
## Names of django-concurrent-test

In the Django settings, `CONCURRENT_TEST_CONFIG` (or `CONCURRENT_TEST`) takes every setting above by its name in capitals
(`TEST_TIMEOUT`), and the old names: {old}. `WORKER_TIMEOUT` has no effect, which is said: a slot takes chunk after
chunk for as long as the run lasts. `CONCURRENT_TEST_LOGGING` takes {logging}.

Two more of its variables:

- `NO_TELEMETRY` changes nothing: nothing is ever sent anywhere but to your own store, broker and databases.
- `DJANGO_ENV`: with a value that means production, no test runs ([security](security.md)).
"""


def page() -> str:
    parts = [_HEAD]
    for group, title in SECTIONS.items():
        rows = [_row(option) for option in OPTIONS if option.group == group]
        head = (
            "| flag | variable | default | |" if group != "worker" else "| variable | default | |"
        )
        parts.append(
            f"\n## {title}\n\n{head}\n{'|---' * (head.count('|') - 1)}|\n" + "\n".join(rows)
        )
    old = ", ".join(f"`{name}`" for name in OLD)
    logging = ", ".join(f"`{name}` (`{setting}`)" for name, setting in LOGGING.items())
    return "\n".join([*parts, _TAIL.format(old=old, logging=logging)])


def _row(option: Option) -> str:
    default = option.default
    shown = "" if default in (None, "", (), False) else f"`{default}`"
    names = [option.variable, *(alias.lstrip("!") for alias in option.aliases)]
    opposite = [f"`{alias[1:]}`" for alias in option.aliases if alias.startswith("!")]
    text = option.help.replace("|", "\\|") + (
        f"; {', '.join(opposite)} means the opposite" if opposite else ""
    )
    variables = ", ".join(f"`{name}`" for name in names)
    flags = " ".join(f"`{flag}`" for flag in option.flags)
    cells = [flags, variables, shown, text] if option.flags else [variables, shown, text]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
