"""Where a distributed run differs from the sequential one on purpose, and why.

`dct run --explain-deviations` prints this.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deviation:
    what: str
    sequential: str
    here: str
    why: str


DEVIATIONS = (
    Deviation(
        "database alias that no selected test declares",
        "keeps its configured NAME: code that connects reaches production",
        "refuses to connect, in every thread; its NAME, HOST, PORT and PASSWORD lead nowhere",
        "a silent query to production becomes an error",
    ),
    Deviation(
        "connection pool that the project opens before its databases are set up, as in"
        " AppConfig.ready()",
        "is kept: tests read and empty the configured database",
        "is closed: tests have the test database alone",
        "tests must not touch data of people",
    ),
    Deviation(
        "KeyboardInterrupt raised by a test, sys.exit() or KeyboardInterrupt raised by a class or"
        " module fixture",
        "ends the run; what follows is never reported, and sys.exit(0) exits 0",
        "is the error of that test or fixture; the others run",
        "a run that stops early must not look green",
    ),
    Deviation(
        "test that stops the run itself, with stop() or shouldStop of its result",
        "ends the run after that test, and what follows is never reported",
        "stops nothing; the others run",
        "a run that stops early must not look green",
    ),
    Deviation(
        "SIGINT that a test sends to its own process",
        "stops the run after that test",
        "stops nothing; only a second one in the same test interrupts it",
        "a run is stopped from its terminal or with dct cancel, not by one of its tests",
    ),
    Deviation(
        "forked child that comes back from its test",
        "runs the rest of the suite once more",
        "ends there; its exit status is 0 if the test passed in it and 1 if not",
        "one test, one verdict",
    ),
    Deviation(
        "test process that dies (segmentation fault, os._exit, out of memory)",
        "ends the run",
        "the test, or the class whose fixture it was, runs again alone; a second death is its"
        " error, and the others run",
        "one test must not cost the others their verdict",
    ),
    Deviation(
        "test, fixture or import that does not end",
        "never ends",
        "is an error with the stacks of all threads after --test-timeout or --fixture-timeout; none"
        " switches a limit off",
        "a slot that hangs is of no use",
    ),
    Deviation(
        "state that one class leaves in the process for another (caches, module globals, class"
        " attributes)",
        "seen by every class that comes later",
        "seen by those that run later in the same test process",
        "tests run in several processes",
    ),
    Deviation(
        "state that a class leaves in the process because it failed",
        "seen by every class that comes later, so that one failure may become many",
        "seen by no other class: its test process ends with it, for the first 20 failures of a run;"
        " dct try shows which verdicts differ for that reason",
        "what comes after a failure is judged for itself",
    ),
    Deviation(
        "what the code of a migration leaves in the memory of its process, in its connection (SET,"
        " a temporary table), or in files (a picture in MEDIA_ROOT, a cache)",
        "seen by every test",
        "not there; what receivers of pre_migrate and post_migrate leave in memory is",
        "databases are migrated once for many runs, in another process",
    ),
    Deviation(
        "values of database sequences and AUTO_INCREMENT",
        "go on from test to test, rollbacks included",
        "start from the template in every clone",
        "sequences survive rollback, so they depend on what ran before",
    ),
    Deviation(
        "setUpModule, and pytest's fixtures of a module, where its tests are shuffled or of several"
        " kinds (rolled back, transactional, without a database)",
        "run each time the order comes back to the module, and once for all kinds in a row",
        "run once per module and kind of test",
        "tests of one kind and module stay together, and kinds need different databases",
    ),
    Deviation(
        "what plain unittest.TestCase and doctests leave in the database",
        "seen by all that come later in the same run",
        "seen by those that come later in the same slot",
        "each slot has clones of its own",
    ),
    Deviation(
        "working directory, environment, umask, sys.path, signal handlers, locale and the like that"
        " a class leaves changed",
        "stay changed for every class that comes later",
        "stay changed for the classes of the same chunk, then are put back; a warning names them",
        "how tests fall into chunks must not decide what a class finds",
    ),
    Deviation(
        "ids that importing the tests has kept, of the process, its group, session or threads"
        " (os.getpid() in a module)",
        "are those of the tests",
        "are those of the process that the test process was forked from",
        "the project is imported once and forked in milliseconds",
    ),
    Deviation(
        "processes, threads and listening sockets that a class leaves behind",
        "live on, until the end of the run or longer",
        "processes are ended with the chunk, the others with their test process; a warning names"
        " them",
        "build machines serve many runs",
    ),
    Deviation(
        "TMPDIR and XDG_CACHE_HOME",
        "are the user's",
        "are folders of the slot's own; what lies in ~/.cache is there through links, and an"
        " XDG_CACHE_HOME that is set stays",
        "slots of one machine must not meet in a file",
    ),
    Deviation(
        "what the project's imports make in the temporary folder (a MEDIA_ROOT, a search index)",
        "is there for all tests, as the earlier ones have left it",
        "is there for each test process as the import made it; where the kernel allows no view of"
        " one's own, the slots of a worker share it",
        "slots of one machine must not meet in a file",
    ),
    Deviation(
        "files that tests write into the project's folder, or remove there",
        "stay so for all that come later, and after the run",
        "stay so for what comes later in the same test process; where the kernel allows no view of"
        " one's own, the slots of a worker share the folder, and a warning names the classes",
        "slots of one machine must not meet in a file",
    ),
    Deviation(
        "run_suite and suite_result of a custom runner",
        "called",
        "not called; a warning names them",
        "the suite runs in chunks, in many processes",
    ),
    Deviation(
        "what the project's command and its run_tests do after the tests, a second test command"
        " included",
        "done once, when the tests are over",
        "left out, but for `finally`, context managers and atexit, when the worker ends the run",
        "each process runs a part of the tests",
    ),
    Deviation(
        "system checks that fail where templates of an earlier run are used",
        "end the run before its first test",
        "end it while tests may be running: those have verdicts, the others are not_run, the exit"
        " code is the same 1",
        "checks take as long as a small suite, and no run is called passed before they have passed",
    ),
    Deviation(
        "numeric total of failures",
        "counts each failing subtest",
        "counts each test once",
        "one test, one verdict",
    ),
)


def explain() -> str:
    """The table as text for a terminal."""
    blocks = [
        f"{d.what}\n  sequential run:  {d.sequential}\n  here:            {d.here}\n  because:     "
        f"    {d.why}"
        for d in DEVIATIONS
    ]
    return "\n\n".join(blocks)
