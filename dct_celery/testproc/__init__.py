"""Inside the user's process: the only code of ours that lives beside the user's project.

The law of this room: standard library, Django, `dct_celery.wire`, `dct_celery.core` and
`dct_celery.errors`; never Celery, kombu or Redis; no sockets and no threads of ours; no clock but
CLOCK_MONOTONIC bound at import, because tests freeze the others; nothing is pickled. Every write to
the worker goes through `channel.Channel`.

A loader imports the project and builds the whole suite once, exactly as the project's own command
does, and then forks a test process per slot. The fork is the process that the tests see.

    main ──▶ backends.find ──▶ Backend.load ──▶ Project
               collect: main sends its manifest
               run:     loader ──fork──▶ session ──▶ Project.run ──▶ recorder ──▶ channel ──▶ slot
"""
