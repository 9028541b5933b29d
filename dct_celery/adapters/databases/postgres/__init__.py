"""PostgreSQL: clones are made by CREATE DATABASE … TEMPLATE.

`server` is the adapter. It talks over one `session` to the maintenance database; `liveness` holds
advisory locks there. `copy` clones a sealed template, which allows no connections. `state` and
`schema` hash everything that a test could see, `heal` makes a used clone equal to its template
again, `dump` writes a template to a file, and `facts` checks the server.

The mark is the comment on the database. Until it is there, a connection limit that only we would
choose shows that the database is ours (I6).
"""
