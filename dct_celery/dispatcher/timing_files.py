"""Files of timings: reading and writing one, and those that a run reads and writes.

What is read is a stranger's: see `core.plan.timing_format` for what of it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dct_celery.core.plan import timing_format
from dct_celery.core.plan.timing_format import BadTimings
from dct_celery.core.plan.timings import Sample
from dct_celery.core.text import one_line
from dct_celery.errors import UsageError
from dct_celery.security import masking, outputs
from dct_celery.settings import Settings

#: Largest file that is read, in bytes: of a suite of 500,000 tests.
MAX_BYTES = 64 * 2**20
#: Where the project names a file, as messages have it.
PROJECTS_OWN = "the Django setting TEST_TIMINGS_FILE"


def read(path: Path, origin: str = "", *, csv: bool = False) -> dict[str, Sample]:
    """The samples in the file by key; CSV if it is called so, or with `csv`.

    `origin`: what named it. Raises UsageError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise BadTimings(
                f"is larger than {MAX_BYTES // 2**20} MiB, which no file of timings is; split it"
            )
        text = content.decode("utf-8-sig", "surrogateescape" if _is_csv(path, csv) else "strict")
        parse = timing_format.from_csv if _is_csv(path, csv) else timing_format.from_json
        return parse(text)
    except BadTimings as error:
        raise UsageError(f"{_named(path, origin)} {error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{_named(path, origin)} is not UTF-8; write it again") from None
    except (OSError, ValueError) as error:  # ValueError: it is no path
        raise UsageError(
            f"{_named(path, origin)} cannot be read"
            f" ({getattr(error, 'strerror', None) or error}); correct its path or its permissions"
        ) from error


def write(path: Path, samples: Mapping[str, Sample], *, csv: bool = False) -> None:
    """Replaces the file by these samples, without secrets. Raises UsageError."""
    # Names alone, so that no secret that looks like a number makes a file that cannot be read.
    clean = {key[:2] + masking.PROCESS(key[2:]): sample for key, sample in samples.items()}
    text = (timing_format.to_csv if _is_csv(path, csv) else timing_format.to_json)(clean)
    outputs.replace(path, text.encode("utf-8", "surrogateescape"))


@dataclass(slots=True)
class TimingFiles:
    """Those of one run; without arguments there are none."""

    #: What was read of them.
    imported: dict[str, Sample] = field(default_factory=dict)
    #: (path, whether it is CSV) of those to write.
    _written: list[tuple[Path, bool]] = field(default_factory=list)
    #: A file of the settings is the one that lasts, and not that of the project.
    _chosen: bool = False
    _folder: Path = Path()
    #: Is told of a file that is no good and so is left alone; None: that ends the run.
    _spare: Callable[[str], object] | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        origins: Mapping[str, str],
        spare: Callable[[str], object] | None = None,
    ) -> TimingFiles:
        """Reads what the settings name, and makes sure of what is to be written.

        `spare`: see `_spare`, for a run that has begun. Raises UsageError.
        """
        folder = Path(settings.project_dir)
        files = cls(_folder=folder, _spare=spare, _chosen=settings.timings_file is not None)
        if settings.timings_file is not None:
            files._keep(folder / settings.timings_file, origins.get("timings_file", ""))
        for name in ("import_timings_csv", "import_timings"):
            if path := getattr(settings, name):
                files.imported |= read(
                    folder / path, origins.get(name, ""), csv=name.endswith("_csv")
                )
        for name in ("export_timings", "export_timings_csv"):
            if path := getattr(settings, name):
                files._write_to(folder / path, origins.get(name, ""), csv=name.endswith("_csv"))
        return files

    def keep_projects_own(self, name: str) -> None:
        """The project's own settings name this file; empty: they name none. Raises UsageError."""
        if name and not self._chosen:
            self._keep(self._folder / name, PROJECTS_OWN)

    def write(self, samples: Mapping[str, Sample]) -> Iterable[str]:
        """Writes all of them; yields a line for each that cannot be written."""
        for path, csv in self._written:
            try:
                write(path, samples, csv=csv)
            except UsageError as error:
                yield str(error)

    def _keep(self, path: Path, origin: str) -> None:
        """A file that lasts: it is read if it is there, and written at the end."""
        try:
            found = read(path, origin) if path.exists() else {}
            self._write_to(path, origin)
        except UsageError as error:
            if self._spare is None:
                raise
            self._spare(str(error))
            return
        self.imported = found | self.imported

    def _write_to(self, path: Path, origin: str, *, csv: bool = False) -> None:
        outputs.check_writable(path, origin)
        csv = _is_csv(path, csv)
        if (path, not csv) in self._written:
            raise UsageError(
                f"{_named(path, origin)} cannot be both JSON and CSV; name another file for one"
            )
        self._written.append((path, csv))


def _is_csv(path: Path, csv: bool) -> bool:
    return csv or path.suffix.lower() == ".csv"


def _named(path: Path, origin: str) -> str:
    return f"{one_line(str(path))}{f' (from {origin})' if origin else ''}"
