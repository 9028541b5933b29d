"""Tools for tests of code that runs more than once at a time. They need Django alone."""

from __future__ import annotations

from dct_celery.testing.middleware import (
    ConcurrencySimulationMiddleware,
    ConcurrentSafetyMiddleware,
    StateMutationMiddleware,
    auto_register_middleware,
    get_middleware_config,
)
from dct_celery.testing.overrides import (
    Finding,
    concurrent_test_context,
    get_test_override,
    reset_test_overrides,
    set_test_override,
)
from dct_celery.testing.requests import (
    SimulatedRequest,
    SimulatedRequests,
    simulate_concurrent_requests,
)
from dct_celery.testing.safety import assert_concurrent_safety

__all__ = [
    "ConcurrencySimulationMiddleware",
    "ConcurrentSafetyMiddleware",
    "Finding",
    "SimulatedRequest",
    "SimulatedRequests",
    "StateMutationMiddleware",
    "assert_concurrent_safety",
    "auto_register_middleware",
    "concurrent_test_context",
    "get_middleware_config",
    "get_test_override",
    "reset_test_overrides",
    "set_test_override",
    "simulate_concurrent_requests",
]
