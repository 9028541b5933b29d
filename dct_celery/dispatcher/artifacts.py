"""Files that tests left on workers, fetched once the verdict that names them is known."""

from __future__ import annotations

from collections import deque

from dct_celery.core.model import MAX_ARTIFACT, MAX_ARTIFACTS, Verdict
from dct_celery.core.text import plural
from dct_celery.dispatcher.services import DispatcherServices
from dct_celery.errors import StoreUnavailable
from dct_celery.ports.reporting import ArtifactArrived, Warned
from dct_celery.security import masking


class ArtifactFetcher:
    """Fetches the files of one run. A file that cannot be fetched costs one warning, no more."""

    def __init__(self, services: DispatcherServices) -> None:
        self._services = services
        self._wanted = bool(services.settings.artifacts)
        self._due: deque[Verdict] = deque()
        #: Bytes fetched so far.
        self._bytes = 0
        #: Digests fetched so far. They stay in the store until the end: another test may have left
        #: a file of the same content, which is the same blob.
        self._fetched: set[str] = set()
        self._full = False

    def want(self, verdict: Verdict) -> None:
        if verdict.artifacts and self._wanted:
            self._due.append(verdict)

    def fetch(self) -> None:
        """Fetches the files of one verdict. On StoreUnavailable, they stay due."""
        if self._due:
            self._fetch(self._due[0])
            self._due.popleft()

    def finish(self) -> None:
        """Fetches the rest, and removes all of them from the store."""
        try:
            while self._due:
                self.fetch()
            self._services.files.drop(self._fetched)
        except StoreUnavailable as error:
            if self._due:
                text = f"the files of {plural(len(self._due), 'test')} were not fetched: {error}"
                self._services.report(Warned(text))

    def _fetch(self, verdict: Verdict) -> None:
        size = sum(artifact.size for artifact in verdict.artifacts)
        if self._bytes + size > MAX_ARTIFACTS:
            self._refuse(verdict)
            return
        self._bytes += size
        found = self._services.files.get(
            {one.digest: one.size for one in verdict.artifacts if one.size <= MAX_ARTIFACT}
        )
        for artifact in verdict.artifacts:
            if (content := found.get(artifact.digest)) is not None:
                self._services.report(ArtifactArrived(verdict, artifact, masked_content(content)))
            elif not self._services.has_artifact(verdict.entry, artifact):
                text = f"{artifact.name} of {verdict.entry.id} did not arrive from its worker"
                self._services.report(Warned(text))
        self._fetched.update(found)

    def _refuse(self, verdict: Verdict) -> None:
        refused = {artifact.digest for artifact in verdict.artifacts}
        self._services.files.drop(refused - self._fetched)
        if not self._full:
            self._full = True
            text = f"files of tests are kept up to {MAX_ARTIFACTS // 2**20:,} MB; the rest is not"
            self._services.report(Warned(text))


def masked_content(content: bytes) -> bytes:
    """The content without secrets, if it is text."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content
    return masking.PROCESS.output(text).encode()
