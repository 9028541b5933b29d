"""One run from the command to its exit code: collect ‖ snapshot → open, and then `conduct`.

Workers start on code, imports and templates while this side still collects: the run is opened as soon as the snapshot is in
the store, and the manifest follows.
"""

from __future__ import annotations

import sys
import tempfile
from typing import IO

from dct_celery import __version__
from dct_celery.core.limits import FIXTURE_SECONDS
from dct_celery.dispatcher.collect import Collected, Patience, collect
from dct_celery.dispatcher.conduct import Conduct, Stopwatch
from dct_celery.dispatcher.fleet import Fleet
from dct_celery.dispatcher.follow import ELSEWHERE
from dct_celery.dispatcher.head import Head
from dct_celery.dispatcher.request import Request, collect_order, strangers
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.dispatcher.standing import StandingRun
from dct_celery.errors import ConfigError, InfrastructureError, Interrupted, NothingSelected, UsageError
from dct_celery.ports import RUN_SECONDS, UserProcess
from dct_celery.protocol import PROTOCOL_VERSION
from dct_celery.protocol.runs import SPEC_LIFETIME_MS, DatabaseRules, RunSpec
from dct_celery.security import guards, masking
from dct_celery.security.files import tail


class Dispatch:
    """One run. `execute` is called once."""

    def __init__(self, services: DispatcherServices, request: Request) -> None:
        self._services = services
        self._request = request
        self._watch = Stopwatch(services, services.clock())
        self._began = services.wall()
        self._standing: StandingRun | None = None

    def execute(self) -> int:
        """The exit code by I10. Raises DctError when there is nothing to report on."""
        console = self._services.console
        with tempfile.TemporaryFile() as log:
            process = self._start_collecting(log)
            try:
                self._open(self._snapshot())
                self._services.queue.check()
                self._compare_brokers()
                collected = self._collect(process, log)
                return self._conduct(collected)
            finally:
                process.kill()
                process.close(grace=1.0)
                console.close()
                if self._standing is not None:
                    self._standing.leave()

    # -- before the run ----------------------------------------------------------------

    def _start_collecting(self, log: IO[bytes]) -> UserProcess:
        request, services = self._request, self._services
        for entry in strangers(services.environ, request.root):
            services.console.warn(f"PYTHONPATH entry {entry} lies outside {request.root}; workers need it in theirs")
        environment = services.user_environment({}, {"PYTHONHASHSEED": request.hash_seed})
        return services.start_process(services.settings.python or sys.executable, collect_order(request), environment, log)

    def _snapshot(self) -> str:
        start = self._services.clock()
        snapshot, files, sent = self._services.snapshot(self._request.root, self._services.blobs)
        self._watch.note("snapshot", start)
        if self._services.settings.code == "snapshot":
            self._services.console.line(f"snapshot of {files:,} file{'s' * (files != 1)}, {sent:,} bytes sent")
        return snapshot.digest

    def _open(self, tree: str) -> None:
        services, request, settings = self._services, self._request, self._services.settings
        spec = RunSpec(
            run=services.run,
            nonce=services.nonce,
            protocol=PROTOCOL_VERSION,
            version=__version__,
            expires_ms=services.store_ms() + SPEC_LIFETIME_MS,
            tree=tree,
            code=settings.code,
            backend=request.backend,
            words=request.words,
            directory=request.directory,
            sys_path=request.sys_path,
            environment=dict(request.environment),
            hash_seed=request.hash_seed,
            ignore_packages=settings.ignore_package,
            test_timeout=settings.test_timeout,
            fixture_timeout=settings.fixture_timeout,
            databases=DatabaseRules(
                settings.create_db,
                settings.keep_databases,
                settings.template_depends,
                settings.allow_database,
                settings.deny_database,
                settings.deny_db_host,
            ),
        )
        if not services.ledger.open_run(services.owner, spec, RUN_SECONDS):
            raise UsageError(f"a run with the id {services.run!r} is open or just ended; choose another --run-id")
        self._standing = StandingRun(services, spec, self._snapshot)
        self._standing.announce()

    def _compare_brokers(self) -> None:
        """A run that no worker would ever hear of ends now. Raises ConfigError."""
        services = self._services
        fleet = Fleet(services.run, services.settings.pool, __version__, PROTOCOL_VERSION, services.door.keyring.ids[0])
        deadline = services.clock() + ELSEWHERE
        while services.fall_back is None:
            fleet.broker = services.broker()
            fleet.update(services.registry.workers(), services.clock())
            if not fleet.all_elsewhere or services.interrupted():
                return
            if services.clock() > deadline:
                raise ConfigError(fleet.misled())
            services.sleep(0.5)

    def _collect(self, process: UserProcess, log: IO[bytes]) -> Collected:
        limit = self._services.settings.fixture_timeout
        patience = Patience(FIXTURE_SECONDS if limit is None else limit, self._services.clock)
        collected = collect(process, lambda: tail(log), self._while_collecting, patience)
        masking.PROCESS.learn(masking.secrets_of_databases(collected.loaded.databases))
        self._services.console.explain(collected.rerun)
        self._watch.note("collect", self._watch.started)
        self._while_collecting()
        count = len(collected.manifest)
        if not count:
            raise NothingSelected("no test was selected; check labels, -k and --tag")
        seed = f", shuffled with seed {self._request.seed}" if self._request.seed is not None else ""
        self._services.console.line(
            f"collected {count:,} test{'s' * (count != 1)} in {self._watch.seconds['collect']:.1f} s{seed}; "
            f"run {self._services.run}"
        )
        for method in collected.loaded.not_honoured:
            self._services.console.warn(f"{method} is overridden, but a distributed run does not call it")
        self._guard(collected)
        return collected

    def _guard(self, collected: Collected) -> None:
        """Before anything is published. Workers may be quicker with their templates, so they ask the same for themselves."""
        settings, loaded = self._services.settings, collected.loaded
        configured = [guards.Configured.from_dict(row) for row in loaded.configured]
        for warning in guards.check(
            configured,
            facts=loaded.facts,
            allow=settings.allow_database,
            deny=settings.deny_database,
            deny_hosts=settings.deny_db_host,
            addresses=self._services.resolve(guards.hosts_to_resolve(configured, settings.deny_db_host)),
        ):
            self._services.console.warn(warning)

    def _while_collecting(self) -> None:
        """A long collection must neither outlive its user's patience nor its own announcement."""
        services = self._services
        if services.interrupted():
            raise Interrupted("interrupted while collecting; nothing ran")
        if trouble := services.fleet_trouble():
            line, _, detail = trouble.partition("\n")
            raise InfrastructureError(line, detail=detail)
        assert self._standing is not None
        self._standing.stay()

    def _conduct(self, collected: Collected) -> int:
        services, standing = self._services, self._standing
        assert standing is not None
        head = Head.of(standing.spec, self._began, self._request, services.settings, collected, services.door)
        return Conduct(services, standing, head, collected, self._watch).begin()
