"""Claims about `core.run.left_behind`: what of ended attempts counts."""

from __future__ import annotations

import pytest

from dct_celery.core.model import Artifact, Chunk, KeptFile, Need, Outcome, Phase, Verdict
from dct_celery.core.run.events import ChunkCompleted
from dct_celery.core.run.leases import LeaseRef
from dct_celery.core.run.left_behind import LeftBehind
from tests.support.factories import group, make_manifest

MANIFEST = make_manifest(group("app.tests.A", count=2))
CHUNK = Chunk("c1", (0, 1), Phase.ISOLATED, Need.PRISTINE)
LEASE = LeaseRef("c1", 1, 7, "build-a", 0, 1)


def data(letter: str) -> Artifact:
    return Artifact("coverage", 9, letter * 40)


def verdict(index: int, worker: str | None = "build-a", attempt: int = 1) -> Verdict:
    return Verdict(MANIFEST[index], Outcome.PASSED, worker=worker, slot=0, attempt=attempt)


@pytest.mark.parametrize(
    ("verdicts", "accepted"),
    [
        ([verdict(0), verdict(1)], True),
        ([verdict(0), verdict(1, "build-b", 2)], True),
        ([verdict(0, "build-b", 2), verdict(1, "build-b", 2)], False),
        ([verdict(0, None), verdict(1, None)], False),
        ([], False),
    ],
)
def test_an_attempt_counts_if_some_verdict_is_from_it(
    verdicts: list[Verdict], accepted: bool
) -> None:
    # Given
    measured = LeftBehind()
    measured.add(LEASE, CHUNK, ChunkCompleted(coverage=data("a")))
    # When
    found, lost = measured.coverage({one.entry.index: one for one in verdicts})
    # Then
    assert found == ([data("a")] if accepted else [])
    assert lost == 0


def test_tests_whose_process_left_no_data_are_counted() -> None:
    # Given a chunk that died after its first test, and another attempt of the second one
    measured = LeftBehind()
    measured.add(LEASE, CHUNK, None)
    again = LeaseRef("c2", 2, 8, "build-b", 0, 1)
    measured.add(
        again,
        Chunk("c2", (1,), Phase.ISOLATED, Need.PRISTINE, 2),
        ChunkCompleted(coverage=data("b")),
    )
    # When
    found, lost = measured.coverage({0: verdict(0), 1: verdict(1, "build-b", 2)})
    # Then
    assert found == [data("b")]
    assert lost == 1


def test_the_same_data_are_there_once() -> None:
    # Given
    measured = LeftBehind()
    for chunk in ("c1", "c2"):
        lease = LeaseRef(chunk, 1, 7, "build-a", 0, 1)
        measured.add(
            lease,
            Chunk(chunk, (0,), Phase.ISOLATED, Need.PRISTINE),
            ChunkCompleted(coverage=data("a")),
        )
    # When / Then
    assert measured.coverage({0: verdict(0)}) == ([data("a")], 0)


def test_files_come_in_the_order_of_the_suite_from_attempts_that_count() -> None:
    # Given three attempts, of which the first to end has the last test and one has no verdict
    left = LeftBehind()
    for chunk, indices, name in (("c1", (1,), "b"), ("c2", (0,), "a"), ("c3", (0,), "c")):
        lease = LeaseRef(chunk, 1 if chunk != "c3" else 2, 7, "build-a", 0, 1)
        file = KeptFile(f"shots/{name}.png", 9, name * 40)
        end = ChunkCompleted(files=(file,), files_left=1)
        left.add(lease, Chunk(chunk, indices, Phase.ISOLATED, Need.PRISTINE), end)
    # When
    files, left_out = left.files({0: verdict(0), 1: verdict(1)})
    # Then
    assert [file.path for file in files] == ["shots/a.png", "shots/b.png"]
    assert left_out == 2
