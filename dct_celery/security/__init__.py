"""What protects a fleet and its secrets.

`signing` holds the keys of a pool: every message is signed for one purpose, pool and run (I11).
`guards` looks at the databases that the project has configured, and refuses to run near production.
`masking` removes secrets from everything that leaves a process. `folders` and `files` keep our
files private, replace them atomically, and never remove anything outside the work folder. `outputs`
writes what users have asked for, where they have named it.

Pure except for `folders`, `files`, `outputs`, `variables`, and the process-wide masker of
`masking`.

The names below are for tools and tests of projects (docs/utilities.md). They live in rooms above
this one, some of which load Django, so each is loaded when it is first asked for: a worker, which
comes by here for its keys, pays nothing.
"""

TYPE_CHECKING = False  # as type checkers know it, without the cost of `typing`
if TYPE_CHECKING:
    from dct_celery.security.variables import (
        ENV_VARS,
        get_env_bool,
        get_env_float,
        get_env_int,
        get_env_str,
        get_env_var,
    )
    from dct_celery.validation import (
        check_system_resources,
        get_safe_worker_count,
        sanitize_log_output,
        security_context,
        validate_database_name,
        validate_database_permissions,
        validate_environment,
        validate_file_permissions,
    )

__all__ = [
    "ENV_VARS",
    "check_system_resources",
    "get_env_bool",
    "get_env_float",
    "get_env_int",
    "get_env_str",
    "get_env_var",
    "get_safe_worker_count",
    "sanitize_log_output",
    "security_context",
    "validate_database_name",
    "validate_database_permissions",
    "validate_environment",
    "validate_file_permissions",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    is_variable = name == "ENV_VARS" or name.startswith("get_env_")
    module = "dct_celery.security.variables" if is_variable else "dct_celery.validation"
    return getattr(import_module(module), name)
