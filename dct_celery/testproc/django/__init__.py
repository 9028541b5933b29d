"""What a test process does with Django's databases and settings.

`databases` describes the project's test databases, builds templates, and attaches a fork to its
clones through the project's own setup_databases; `connection_guard` then makes every other alias
lead nowhere, in every thread. `template_key` hashes what decides a template's contents, with the
help of `sources` and `stable_values`; `targets` finds out where connections lead, `environment`
names interpreter and packages, `surroundings` settings and services, `variables` what the project
reads of the environment; `check_memory` leaves what system checks do. `fast_flush`
and `sqlite_memory` correct the cost and a deadlock of Django's tear-down.

A clone is never created or chosen here: the worker gives its name, and a process can only reach
that one (I6).
"""
