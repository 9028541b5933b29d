"""Claims about `core.plan.last_failures`: what counts as failed when it last ran."""

from __future__ import annotations

from dct_celery.core.model import FixtureRef, Outcome, Verdict
from dct_celery.core.plan.last_failures import LastFailures, learn
from tests.support.factories import group, make_manifest

MANIFEST = make_manifest(group("a.T", count=5))


def test_failures_are_added_passes_removed_and_the_rest_is_kept() -> None:
    # Given
    bad, good, skipped, missing, covered = MANIFEST.entries
    known = LastFailures((good.id, missing.id, skipped.id, "gone.T.test"))
    # When
    learned = learn(
        known,
        [
            Verdict(bad, Outcome.ERROR),
            Verdict(good, Outcome.PASSED),
            Verdict(skipped, Outcome.SKIPPED),
            Verdict(missing, Outcome.NOT_RUN),
            Verdict(covered, Outcome.NOT_RUN, covered_by=FixtureRef.parse("setUpClass (a.T)")),
        ],
    )
    # Then
    assert learned.tests == tuple(sorted([bad.id, missing.id, covered.id, "gone.T.test"]))
