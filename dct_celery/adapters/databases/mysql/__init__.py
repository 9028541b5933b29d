"""MySQL and MariaDB: clones are made by replaying what SHOW CREATE prints.

`server` is the adapter. It talks over one `connection`, keeps marks, holds and liveness locks in a
registry database (`marks`), and reads a database's contents with `inventory` and `tables`. A `plan`
is read once per template and replayed for each clone; `heal` repairs a used clone. `export` writes
a template to a file and restores it, and `facts` checks version, privileges and settings.

A copy is compared with its template before a test gets it, and a database is marked before it
exists, so that a process that dies half way leaves nothing unmarked behind (I6).
"""
