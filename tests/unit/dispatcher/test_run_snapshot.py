"""Claims about a run's head: another dispatcher learns from it all that it takes, and secrets stay
where they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dct_celery.core.model import Failure, Outcome
from dct_celery.core.part import Part, Question
from dct_celery.dispatcher.journal import Journal
from dct_celery.dispatcher.run_snapshot import RunSnapshot, nonce_in_journal
from dct_celery.errors import InfrastructureError, Untrusted, UsageError
from dct_celery.protocol.heads import Head, compress, expand
from dct_celery.settings import Settings
from tests.support.factories import (
    KEY_ID,
    NONCE,
    OTHER_KEY,
    REQUEST,
    group,
    make_head,
    make_manifest,
    make_spec,
    run_door,
)

DOOR = run_door("run-one")
MANIFEST = make_manifest(group("app.tests.A", count=2), group("app.tests.B"))


def head(settings: Settings) -> RunSnapshot:
    return make_head(MANIFEST, settings=settings)


def test_a_head_comes_back_as_it_was() -> None:
    # Given
    first = head(Settings(labels=("app",), failfast=True, reruns=2))
    # When
    second = RunSnapshot.parse(expand(compress(first.text(DOOR))), DOOR)
    # Then
    assert second == first
    assert second.to_collected().manifest == MANIFEST
    assert second.request == replace(REQUEST, environment={})
    assert second.spec == make_spec("run-one", environment=dict.fromkeys(REQUEST.environment, ""))
    assert second.began == 5.0
    assert (second.manifest.digest, second.manifest.count) == (MANIFEST.digest, 3)


def test_what_a_run_runs_of_its_suite_is_in_the_head() -> None:
    # Given
    failure = Failure("failure", "AssertionError", "1 != 2", "…")
    question = Question(Outcome.FAILED, (failure,), (("a.A.test_0", 0),))
    part = Part((("a.B.test_0", 1),), about=("a.B.test_0", 1), question=question)
    first = make_head()
    first = replace(first, request=replace(first.request, part=part))
    # When
    parsed = RunSnapshot.parse(first.text(DOOR), DOOR)
    # Then: an attach goes on with the same part
    assert parsed.request.part == part


def test_a_worker_reads_the_tests_in_it_and_nothing_that_others_have_signed() -> None:
    # Given
    data = compress(head(Settings()).text(DOOR))
    # Then
    assert Head.read(data, DOOR).entries == MANIFEST.entries
    with pytest.raises(Untrusted):
        Head.read(data, run_door("run-two"))
    with pytest.raises(InfrastructureError):
        Head.read(data[:-5], DOOR)


def test_the_run_keeps_its_own_settings_but_for_those_given_again(tmp_path: Path) -> None:
    # Given
    own = Settings(
        reruns=2,
        k=("a", "b"),
        junit_xml="first.xml",
        store="redis://first",
        project_dir=str(tmp_path),
    )
    here = Settings(
        junit_xml="second.xml", store="redis://second", verbosity=2, project_dir="/nowhere"
    )
    # When
    settings = RunSnapshot.parse(head(own).text(DOOR), DOOR).to_settings(here, {"junit_xml"})
    # Then
    assert (settings.reruns, settings.k, settings.verbosity) == (2, ("a", "b"), 1)
    assert (settings.junit_xml, settings.store, settings.project_dir) == (
        "second.xml",
        "redis://second",
        str(tmp_path),
    )


@pytest.mark.parametrize("value", ["many", [1], {"a": 1}, -1, 1e300, True])
def test_a_setting_that_no_command_would_take_is_refused(value: object) -> None:
    # Given a dispatcher of ours that is at fault
    odd = replace(head(Settings()), settings={"reruns": value})
    # Then
    with pytest.raises(Untrusted, match="the head of the run has no valid reruns"):
        odd.to_settings(Settings(), set())


def test_what_belongs_to_this_machine_is_not_taken_from_a_head() -> None:
    # Given
    odd = replace(
        head(Settings()),
        settings={"store": "redis://other", "signing_key": "k", "python": "/bin/sh", "nonsense": 1},
    )
    # Then
    here = Settings(store="redis://here")
    kept = odd.to_settings(here, set())
    assert (kept.store, kept.signing_key, kept.python) == (
        here.store,
        here.signing_key,
        here.python,
    )


def test_it_holds_no_secret() -> None:
    # When
    text = head(Settings(store="redis://:s3cret@host", signing_key="s3cret")).text(DOOR)
    # Then
    assert "s3cret" not in text


def test_a_lost_specification_comes_back_with_the_values_of_the_attaching_side() -> None:
    # Given
    lost = RunSnapshot.parse(head(Settings()).text(DOOR), DOOR)
    # Then
    assert (
        lost.whole_spec({**REQUEST.environment, "HOME": "/"}, DOOR).environment
        == REQUEST.environment
    )


def test_a_specification_is_not_rebuilt_from_other_values_than_the_runs() -> None:
    # Given
    lost = RunSnapshot.parse(head(Settings()).text(DOOR), DOOR)
    name, *_ = REQUEST.environment
    # Then
    for environ in ({}, {**REQUEST.environment, name: "another"}):
        with pytest.raises(UsageError, match=rf"journals hold no values of variables.*{name}"):
            lost.whole_spec(environ, DOOR)


def test_another_key_or_another_run_is_refused() -> None:
    # Given
    text = head(Settings()).text(DOOR)
    # Then
    with pytest.raises(Untrusted, match="the head of the run is signed with another key"):
        RunSnapshot.parse(text, run_door("run-one", OTHER_KEY))
    with pytest.raises(Untrusted, match="the head of the run has a wrong signature"):
        RunSnapshot.parse(text, run_door("run-one", nonce="f" * 16))
    with pytest.raises(Untrusted, match="the head of the run is not signed"):
        RunSnapshot.parse("what", DOOR)


def test_what_is_not_compressed_or_cut_is_refused() -> None:
    with pytest.raises(InfrastructureError, match="cannot be read"):
        expand(b"what")
    with pytest.raises(InfrastructureError, match="or was cut"):
        expand(compress(head(Settings()).text(DOOR))[:-1])


def test_a_head_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr("dct_celery.protocol.heads._LIMIT", 1000)
    # Then
    with pytest.raises(InfrastructureError, match="longer than any head"):
        expand(compress("x" * 1001))


def test_a_manifest_of_other_things_is_refused() -> None:
    # Given
    rows: Any = ({"index": "0"},)
    text = replace(head(Settings()), entries=rows).text(DOOR)
    # Then
    with pytest.raises(Untrusted, match=r"the head of the run .*entries: index"):
        RunSnapshot.parse(text, DOOR)


def test_which_run_a_journal_is_of_is_known_before_anything_is_proven(tmp_path: Path) -> None:
    # Given
    assert nonce_in_journal(tmp_path, "run-one") == ("", "")
    Journal(tmp_path, "run-one", head(Settings()).text(DOOR), DOOR).close()
    # Then
    assert nonce_in_journal(tmp_path, "run-one") == (NONCE, KEY_ID)
    (tmp_path / "run-one.jsonl").write_text("nothing of ours\n")
    assert nonce_in_journal(tmp_path, "run-one") == ("", "")
