"""The questions by which two processes find out whether they speak to the same server, and to which
of its databases.

Asked by the worker, over its own connection, and by the test process, over the project's: settings,
options, service files and pools may lead the two to different places.
"""

from __future__ import annotations

#: Vendor -> query for one text that differs from server to server. Of PostgreSQL, the moment of its
#: start: addresses differ by the way that one comes, and its system identifier is shared by its
#: replicas.
IDENTITY = {
    "postgresql": "SELECT extract(epoch FROM pg_postmaster_start_time())::text",
    "mysql": "SELECT CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir)",
}
#: Vendor -> query for the name of the database that the session is in.
CURRENT = {"postgresql": "SELECT current_database()", "mysql": "SELECT DATABASE()"}
