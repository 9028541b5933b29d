"""A plugin of the project: databases on a server that is there already."""

from pytest_postgresql import factories

postgresql_there = factories.postgresql_noproc()
postgresql = factories.postgresql("postgresql_there")
