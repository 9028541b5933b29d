"""Queries by which two processes find out whether they reach the same server and database.

The worker runs them over its own connection, the test process over the project's: settings,
options, service files and connection pools may lead the two to different places.
"""

from __future__ import annotations

#: Vendor -> query for a text that differs from server to server. For PostgreSQL the time of its
#: start: its address depends on the route, and its system identifier is shared by its replicas.
IDENTITY = {
    "postgresql": "SELECT extract(epoch FROM pg_postmaster_start_time())::text",
    "mysql": "SELECT CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir)",
}
#: Vendor -> query for the name of the database that the session is in.
CURRENT = {"postgresql": "SELECT current_database()", "mysql": "SELECT DATABASE()"}
