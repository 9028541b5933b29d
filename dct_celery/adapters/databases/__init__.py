"""Database servers as the worker sees them: templates and clones by name, without Django."""
