"""`ledger` lives on `other` alone, `catalog` on `default` alone, the rest on both."""

HOMES = {"ledger": "other", "catalog": "default", "adhoc": "default"}


class Router:
    def db_for_read(self, model, **hints):
        return HOMES.get(model._meta.app_label)

    db_for_write = db_for_read

    def allow_relation(self, first, second, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return HOMES.get(app_label, db) == db
