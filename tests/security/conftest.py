"""The fleets of the acceptance tests."""

from tests.acceptance.conftest import fleet, fleet_store, place

__all__ = ["fleet", "fleet_store", "place"]
