"""The head of a run: what another dispatcher needs to go on with it, besides its events.

It is the first line of the journal and, compressed, a key in the store; signed in both. It holds
neither secret settings nor values of variables that tests are given. Workers have those from the
run's specification, which is in the store alone.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dct_celery.core import codec
from dct_celery.core.codec import Json
from dct_celery.core.model import Entry, Manifest
from dct_celery.core.option import accept
from dct_celery.dispatcher import journal as journals
from dct_celery.dispatcher.collect import Collected
from dct_celery.dispatcher.request import Request
from dct_celery.errors import Untrusted, UsageError
from dct_celery.protocol.door import Door, parse, peek
from dct_celery.protocol.heads import KIND
from dct_celery.protocol.runs import ManifestSummary, RunSpec
from dct_celery.security.signing import signature_of, signed_by
from dct_celery.settings import OPTIONS, Settings
from dct_celery.wire import messages

#: Groups of settings that belong to the run and not to the machine of its dispatcher.
_GROUPS = frozenset({"tests", "code", "limits", "report", "timings", "database"})


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The head of one run. `began`: Unix seconds."""

    #: The specification without the values of variables.
    spec: RunSpec
    #: Signature of the specification with them, to prove that values supplied later are the same.
    spec_signature: str
    manifest: ManifestSummary
    began: float
    request: Request
    project_dir: str
    #: Settings of the run by name, as plain values.
    settings: dict[str, Json]
    loaded: messages.Loaded
    entries: tuple[Entry, ...]

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        began: float,
        request: Request,
        settings: Settings,
        collected: Collected,
        door: Door,
    ) -> RunSnapshot:
        names = [option.name for option in OPTIONS if option.group in _GROUPS and not option.secret]
        loaded = collected.loaded
        return cls(
            spec=replace(spec, environment=dict.fromkeys(spec.environment, "")),
            spec_signature=signature_of(door.seal(spec)),
            manifest=ManifestSummary(
                loaded.digest, len(collected.manifest.entries), loaded.environment
            ),
            began=began,
            request=replace(request, environment={}),
            project_dir=settings.project_dir,
            settings={name: codec.encode(getattr(settings, name)) for name in names},
            loaded=replace(loaded, databases=[], configured=[]),
            entries=collected.manifest.entries,
        )

    def text(self, door: Door) -> str:
        """One line, signed."""
        return door.seal(self)

    @classmethod
    def parse(cls, text: str, door: Door) -> RunSnapshot:
        """Raises Untrusted for another key, another run, or another version's head."""
        try:
            snapshot = parse(RunSnapshot, door.unseal_text(KIND, text))
        except Untrusted as error:
            raise Untrusted(f"the head of the run {error}") from error
        return snapshot

    def whole_spec(self, environ: Mapping[str, str], door: Door) -> RunSpec:
        """The specification for a store that has lost it, with the variables of this process.

        Raises UsageError if their values are not those of the run.
        """
        names = list(self.spec.environment)
        spec = replace(
            self.spec, environment={name: environ[name] for name in names if name in environ}
        )
        if signature_of(door.seal(spec)) != self.spec_signature:
            missing = ", ".join(name for name in names if name not in environ) or ", ".join(names)
            raise UsageError(
                f"the store has lost run {self.spec.run}, and journals hold no values of variables;"
                f" set these as they were when it began, and attach again: {missing}"
            )
        return spec

    def to_collected(self) -> Collected:
        return Collected(Manifest(self.entries), self.loaded)

    def to_settings(self, here: Settings, given: Container[str]) -> Settings:
        """The run's settings, except those of the machine and those `given` to this command.

        Raises Untrusted.
        """
        options = {
            option.name: option
            for option in OPTIONS
            if option.group in _GROUPS and not option.secret
        }
        kept: dict[str, Any] = {}
        for name, value in self.settings.items():
            if name not in options or name in given:
                continue
            option = options[name]
            plain = tuple(value) if isinstance(value, list) else value
            try:
                kept[name] = plain if plain == option.default else accept(option, value, text=False)
            except ValueError:
                raise Untrusted(f"the head of the run has no valid {name}") from None
        return replace(
            here,
            **kept,
            project_dir=self.project_dir if Path(self.project_dir).is_dir() else here.project_dir,
        )


def nonce_in_journal(folder: Path, run: str) -> tuple[str, str]:
    """(nonce, id of the signing key) from this machine's journal, unverified; empty without one."""
    try:
        text, _ = journals.read(journals.path(folder, run))
        return peek(RunSnapshot, text).spec.nonce, signed_by(text)
    except (OSError, Untrusted):
        return "", ""
