"""Every setting: `table` has the options and their types, `sources` finds and checks the values."""

from dct_celery.settings.sources import load, warnings_of
from dct_celery.settings.table import (
    DEFAULT_STORE,
    INPUTS,
    INTERNAL_VARIABLES,
    KEY_LENGTH,
    OPTIONS,
    OUTPUTS,
    PRINTED,
    REPORTS,
    Settings,
)

__all__ = [
    "DEFAULT_STORE",
    "INPUTS",
    "INTERNAL_VARIABLES",
    "KEY_LENGTH",
    "OPTIONS",
    "OUTPUTS",
    "PRINTED",
    "REPORTS",
    "Settings",
    "load",
    "warnings_of",
]
