"""The app that `celery -A dct_celery worker` finds. No logic."""

from __future__ import annotations

import sys

from dct_celery.bootstrap import slow_down_garbage_collector
from dct_celery.core.text import one_line
from dct_celery.errors import DctError
from dct_celery.security import masking

try:
    slow_down_garbage_collector()
    from dct_celery.bootstrap.worker import make_worker_app

    app = make_worker_app()
except DctError as error:
    sys.stderr.write(f"dct: error: {one_line(masking.PROCESS(str(error)))}\n")
    raise SystemExit(error.exit_code) from None
