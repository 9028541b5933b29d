"""The test frameworks: `base` is the interface, and each package here implements it for one.

Everything above this room (main, loader, session, recorder) knows `base` alone, and finds a backend
by its name: see `dct_celery.core.backends`. A backend loads the project, describes its tests and
databases, attaches a fork to its clones, and runs chunks.
"""
