"""Inside the user's process: the only code of ours that runs beside the user's project.

A loader executes the project's own command as far as to the whole suite, once, and then forks a
test process per slot. The fork is the process that the tests see. Where the project has threads,
which no fork would have, each test process executes the command by itself.

    main ──▶ backends.find ──▶ Backend.load ──▶ serve(Project)
               collect: main sends its manifest
               run:     loader ──fork──▶ session ──▶ Project.run ──▶ recorder ──▶ channel ──▶ slot

The rules of this room: only the standard library, Django, `dct_celery.wire`, `dct_celery.core` and
`dct_celery.errors`; no Celery, kombu or Redis; no sockets and no threads of ours; no clock except
CLOCK_MONOTONIC, bound at import, because tests freeze the others; nothing is pickled. Every write
to the worker goes through `channel.Channel`, one record per test, as it ends (I3). A retry gets a
fresh fork, and tests run in a process in ascending order (I13). Heartbeats, time-outs and kills are
the worker's, where no test can stop them (I9).
"""
