"""Database servers as the worker sees them: templates and clones by name, without Django.

`select` picks the adapter for a vendor: `postgres`, `mysql` (MariaDB included) or `sqlite`. Each
implements `ports.DatabaseServer`: check the server, build under a lock, seal the template with its
mark, clone it, and then heal, adopt or drop the clones. `costs` compares healing with cloning.

Invariants: a clone's name is never used twice for other contents (I6), and only a database that has
a name of ours and carries our mark is ever dropped. Liveness locks end with the process that holds
them, so no clocks are compared (I5). A clone is verified against its template before a test gets
it.
"""
