from pytest_postgresql import factories

postgresql_there = factories.postgresql_noproc()
postgresql = factories.postgresql("postgresql_there")
