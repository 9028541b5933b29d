"""The composition root: settings in, wired dispatcher or worker out. The only room that knows every
adapter.

Adapters are imported by the functions that wire them: a help text or a wrong option must not wait
for Celery.
"""

from __future__ import annotations

from dct_celery.bootstrap.dispatcher import attach_run, list_files, run_tests
from dct_celery.bootstrap.inspection import cancel_run, look_at_runs, look_at_workers, watch_runs
from dct_celery.bootstrap.maintenance import collect_garbage, examine
from dct_celery.bootstrap.report_files import report_failure
from dct_celery.bootstrap.worker import make_worker_app

__all__ = [
    "attach_run",
    "cancel_run",
    "collect_garbage",
    "examine",
    "list_files",
    "look_at_runs",
    "look_at_workers",
    "make_worker_app",
    "report_failure",
    "run_tests",
    "watch_runs",
]
