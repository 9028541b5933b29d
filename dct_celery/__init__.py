"""Runs a Django test suite on many machines at once, with the verdicts of the sequential run.

This package imports nothing here: `import dct_celery` must stay cheap in every process that finds
it installed. PYTEST_DONT_REWRITE: pytest, whose plugin is a part of it, may find it imported.
"""

__version__ = "0.1.0"
