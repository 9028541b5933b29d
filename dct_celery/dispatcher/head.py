"""The head of a run: all that its dispatcher knew before the first event, so that another one can go on with it.

It stands at the top of the journal and, compressed, in the store. Neither secrets of settings nor values of the variables that
the tests were given are in it: workers need those, and have them from the run's specification, which is in the store alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dct_celery.core.model import Entry, Manifest
from dct_celery.dispatcher.collect import Collected
from dct_celery.dispatcher.request import Request
from dct_celery.errors import InfrastructureError, UsageError
from dct_celery.security import signing
from dct_celery.settings import OPTIONS, Settings
from dct_celery.wire import messages

#: Groups of settings that belong to the run and not to the machine of its dispatcher.
_GROUPS = frozenset({"django", "limits", "report", "database"})
#: Greatest size of a head, in bytes: some 300,000 tests.
_LIMIT = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """One run. `manifest` is the signed text that workers read, `spec` that text without values (see `hollow`); `began` is Unix
    time."""

    run: str
    spec: dict[str, Any]
    manifest: str
    began: float
    request: dict[str, Any]
    settings: dict[str, Any]
    loaded: dict[str, Any]
    entries: list[dict[str, Any]]

    @classmethod
    def of(cls, run: str, spec: str, began: float, request: Request, settings: Settings, collected: Collected, key: str) -> Head:
        names = [option.name for option in OPTIONS if option.group in _GROUPS and not option.secret]
        summary = {
            "digest": collected.loaded.digest,
            "count": len(collected.manifest),
            "environment": collected.loaded.environment,
        }
        return cls(
            run=run,
            spec=hollow(spec),
            manifest=signing.sign(summary, key),
            began=began,
            request={**asdict(replace(request, environment={})), "root": str(request.root)},
            settings={"project_dir": settings.project_dir, **{name: getattr(settings, name) for name in names}},
            loaded=asdict(replace(collected.loaded, databases=[], configured=[])),
            entries=collected.rows,
        )

    def text(self, key: str) -> str:
        # No asdict: it copies every entry of the manifest.
        return signing.sign({name: getattr(self, name) for name in self.__slots__}, key)

    @classmethod
    def parse(cls, text: str, key: str) -> Head:
        """Raises ConfigError for another key, InfrastructureError for a head of another version."""
        body = signing.verify(text, key, what="the head of the run")
        try:
            return cls(**body)
        except TypeError as error:
            raise InfrastructureError("the run was begun by another version of dct_celery; use that one") from error

    def spec_text(self, environ: Mapping[str, str], key: str) -> str:
        """The specification for a store that has lost it, with the values of this process. Raises UsageError where they are not
        those of the run, which its signature proves."""
        names = list(self.spec["environment"])
        body = {**self.spec, "environment": {name: environ[name] for name in names if name in environ}}
        text = signing.sign(body, key)
        if json.loads(text)["sig"] != self.spec["sig"]:
            missing = ", ".join(name for name in names if name not in environ) or ", ".join(names)
            raise UsageError(
                f"the store has lost run {self.run}, and journals hold no values of variables; "
                f"set these as they were when it began, and attach again: {missing}"
            )
        return text

    def to_collected(self) -> Collected:
        manifest = Manifest(tuple(Entry.from_dict(row) for row in self.entries))
        return Collected(manifest, messages.Loaded(**self.loaded), self.entries)

    def to_request(self) -> Request:
        lists = {name: tuple(self.request[name]) for name in ("argv", "sys_path")}
        return Request(**{**self.request, **lists, "root": Path(self.request["root"])})

    def to_settings(self, here: Settings, given: Container[str]) -> Settings:
        """The run's own, but for what this machine decides and the names that were `given` to this command."""
        own: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in self.settings.items()}
        folder = own.pop("project_dir")
        kept = {name: value for name, value in own.items() if name not in given}
        return replace(here, **kept, project_dir=folder if Path(folder).is_dir() else here.project_dir)


def hollow(spec: str) -> dict[str, Any]:
    """A specification without the values of variables. Its signature stays: it says whether another text is the same one."""
    body: dict[str, Any] = json.loads(spec)
    return {**body, "environment": dict.fromkeys(body["environment"], "")}


def compress(text: str) -> bytes:
    # Level 1: the head is written while slots wait for their first chunk.
    return zlib.compress(text.encode(), 1)


def expand(data: bytes) -> str:
    """Raises InfrastructureError for what `compress` did not make."""
    stream = zlib.decompressobj()
    try:
        return stream.decompress(data, _LIMIT).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise InfrastructureError("the head of the run in the store cannot be read") from error
