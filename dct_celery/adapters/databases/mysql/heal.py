"""Makes a used clone equal to its template again: repairs what differs, then compares everything.

Changed definitions are not repaired: the caller drops the database and clones again.
"""

from __future__ import annotations

from dct_celery.adapters.databases.mysql.connection import Link, identifier
from dct_celery.adapters.databases.mysql.inventory import Inventory, read_inventory, reread
from dct_celery.adapters.databases.mysql.plan import Plan, make_one, restart
from dct_celery.errors import DatabaseError


def heal(link: Link, plan: Plan, name: str) -> None:
    """Raises DatabaseError when the database cannot be made equal; it must not be used then."""
    wanted = plan.inventory
    with link.operation():
        used = read_inventory(link, name)
        if used.definitions != wanted.definitions:
            raise DatabaseError(f"its schema was changed: {wanted.difference(used)}")
        if used.state == wanted.state:
            return
        link.use(name)
        healed = reread(link, name, used, wanted, _repair(link, plan, used))
    if healed.state != wanted.state:
        raise DatabaseError(f"it could not be cleaned: {wanted.difference(healed)}")


def _repair(link: Link, plan: Plan, used: Inventory) -> set[str]:
    """Repairs rows and positions that differ; returns the tables that it touched."""
    wanted = plan.inventory
    moved = {t for t in wanted.tables if used.positions.get(t) != wanted.positions.get(t)}
    dirty = {t for t in wanted.tables if used.contents.get(t) != wanted.contents.get(t)}
    # On MySQL, TRUNCATE takes half as long as resetting AUTO_INCREMENT; on MariaDB it is the other
    # way round.
    new = (
        set()
        if link.is_mariadb()
        else {t for t in moved if t not in wanted.contents and t not in wanted.positions}
    )
    link.batch([f"TRUNCATE TABLE {identifier(table)}" for table in sorted(new)])
    _refill(link, plan, sorted(dirty - new))
    link.batch(
        [_reset_position(table, wanted.positions.get(table, 1)) for table in sorted(moved - new)]
    )
    stray = [
        sequence for sequence, value in wanted.values.items() if used.values[sequence] != value
    ]
    link.batch([restart(sequence, wanted.values[sequence][0]) for sequence in stray])
    return moved | dirty


def _refill(link: Link, plan: Plan, dirty: list[str]) -> None:
    """Empties tables and copies the template's rows.

    Triggers are dropped meanwhile, or they would write more rows.
    """
    if not dirty:
        return
    triggers = [one for one in plan.inventory.stored if one.kind == "TRIGGER"]
    link.batch([f"DROP TRIGGER {identifier(trigger.name)}" for trigger in triggers])
    statements = [f"DELETE FROM {identifier(table)}" for table in dirty]
    statements += [plan.copying(table) for table in dirty if table in plan.columns]
    link.batch(["START TRANSACTION", *statements, "COMMIT"])
    for trigger in triggers:
        make_one(link, trigger)


def _reset_position(table: str, position: int) -> str:
    return f"ALTER TABLE {identifier(table)} AUTO_INCREMENT = {position}"
