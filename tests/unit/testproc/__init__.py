"""The project's side of a run, as far as it can be tested without a project."""
