"""Claims about the journal: whatever may be acknowledged can be replayed, and one dispatcher writes
it.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dct_celery.core.model import Chunk, Need, Outcome, Phase
from dct_celery.core.run.events import ChunkCompleted, Recorded
from dct_celery.core.run.records import TestRecord
from dct_celery.dispatcher import journal as journals
from dct_celery.dispatcher.journal import KEEP, Journal, open_journal
from dct_celery.errors import ConfigError, UsageError
from dct_celery.protocol.door import Door
from dct_celery.protocol.stream import StreamEntry, read_entry
from dct_celery.protocol.workers import CheckedReport
from dct_celery.security import masking
from tests.support import streams
from tests.support.factories import OTHER_KEY, held, run_door
from tests.support.runs import finished

DOOR = run_door("one")
CHUNK = Chunk("c1", (0, 1), Phase.ISOLATED, Need.PRISTINE)


def entry(kind: str = "records", seq: int = 2, chunk: str = "c1", epoch: int = 1) -> StreamEntry:
    lease = held(5, chunk=chunk, epoch=epoch)
    fields = {
        "records": lambda: streams.recorded(DOOR, lease, seq, finished(0, output="é\udcff")),
        "completed": lambda: streams.ended(DOOR, lease, seq, ChunkCompleted()),
        "offered": lambda: streams.offered(DOOR, CHUNK, epoch),
        "claimed": lambda: streams.claimed(lease),
        "report": lambda: streams.reported(DOOR, "build-a", CheckedReport(), epoch),
    }[kind]()
    return read_entry(DOOR, f"{epoch}-{seq}", fields)


def lines(journal: Journal, door: Door = DOOR) -> list[StreamEntry]:
    return [journals.parse_line(door, line) for line in journals.read(journal.path)[1]]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, "one", "head", DOOR)
    yield journal
    journal.close()


def test_what_was_appended_is_replayed_as_it_was(tmp_path: Path, journal: Journal) -> None:
    # Given
    entries = [
        entry("offered", 0),
        entry("claimed", 0),
        entry(),
        entry("completed"),
        entry("report"),
        entry(epoch=2),
    ]
    journal.append(entries[:2])
    journal.append(entries[2:])
    journal.close()
    # When
    head, found = journals.read(journals.path(tmp_path, "one"))
    # Then
    assert head == "head"
    assert [journals.parse_line(DOOR, line) for line in found] == entries


def test_the_positions_to_acknowledge_are_those_of_the_last_entry_of_each_attempt(
    journal: Journal,
) -> None:
    # When
    first = journal.append(
        [entry("claimed", 0), entry(seq=1), entry(seq=2), entry(chunk="c2", seq=4)]
    )
    second = journal.append([entry("completed", 2)])
    # Then: the end of an attempt counts as a record
    assert first == {"c1.1": 2, "c2.1": 4}
    assert second == {"c1.1": 3}
    assert journal.positions == {"c1.1": 3, "c2.1": 4}


def test_a_line_that_was_not_written_to_its_end_is_none(tmp_path: Path, journal: Journal) -> None:
    # Given
    journal.append([entry()])
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"id": "1-')
    # Then
    assert lines(journal) == [entry()]


def test_a_journal_that_is_gone_on_with_keeps_what_it_has(tmp_path: Path, journal: Journal) -> None:
    # Given
    journal.append([entry()])
    journal.close()
    # When
    again = Journal(tmp_path, "one", "another head", DOOR, go_on=True)
    again.append([entry("completed")])
    # Then
    assert list(again.replay()) == [entry(), entry("completed")]
    assert again.positions == {"c1.1": 3}
    again.close()


def test_a_run_of_the_same_name_begins_a_journal_of_its_own(
    tmp_path: Path, journal: Journal
) -> None:
    # Given
    journal.append([entry()])
    journal.close()
    # When
    Journal(tmp_path, "one", "second", DOOR).close()
    # Then
    head, entries = journals.read(journal.path)
    assert (head, list(entries)) == ("second", [])


def test_a_journal_has_one_writer(tmp_path: Path, journal: Journal) -> None:
    # Given: another process holds it, which another opening of the file stands for
    with pytest.raises(
        UsageError, match="run one has its dispatcher, which is alive on this machine"
    ):
        Journal(tmp_path, "one", "head", DOOR, go_on=True)


def test_what_was_torn_off_is_cut_before_the_journal_goes_on(
    tmp_path: Path, journal: Journal
) -> None:
    # Given a dispatcher that died while it wrote
    journal.append([entry()])
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"id": "1-')
    # When
    again = Journal(tmp_path, "one", "another head", DOOR, go_on=True)
    again.append([entry("completed")])
    # Then
    assert list(again.replay()) == [entry(), entry("completed")]
    again.close()


def test_a_full_disk_leaves_whole_lines_and_a_file_that_can_be_closed(journal: Journal) -> None:
    # Given
    journal.append([entry()])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = journal.path.stat().st_size
    # When
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
        with pytest.raises(OSError, match="File too large"):
            journal.append([entry("completed")])
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    # Then
    assert journal.path.stat().st_size == size
    assert lines(journal) == [entry()]


def test_only_its_owner_may_read_it(journal: Journal) -> None:
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_old_journals_are_removed_but_not_that_of_a_running_run(
    tmp_path: Path, journal: Journal
) -> None:
    # Given
    os.utime(journal.path, (1, 1))
    for number in range(KEEP + 2):
        path = tmp_path / f"old-{number:02}.jsonl"
        path.touch()
        os.utime(path, (100 + number, 100 + number))
    # When
    Journal(tmp_path, "two", "head", DOOR).close()
    # Then
    names = {path.name for path in tmp_path.iterdir()}
    assert "one.jsonl" in names
    assert len(names) == KEEP + 2
    assert "old-00.jsonl" not in names


def test_the_journal_that_is_gone_on_with_is_kept_however_old_it_is(
    tmp_path: Path, journal: Journal
) -> None:
    # Given
    journal.append([entry()])
    journal.close()
    os.utime(journal.path, (1, 1))
    for number in range(KEEP + 2):
        (tmp_path / f"newer-{number:02}.jsonl").touch()
    # When
    again = Journal(tmp_path, "one", "another head", DOOR, go_on=True)
    # Then
    assert list(again.replay()) == [entry()]
    again.close()


def test_two_that_prune_at_the_same_time_do_not_disturb_each_other(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a journal that another dispatcher removes after it was listed
    listed = [tmp_path / f"gone-{number}.jsonl" for number in range(KEEP + 2)]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(listed))
    # Then
    Journal(tmp_path, "two", "head", DOOR).close()


def test_a_folder_that_cannot_be_written_is_named_with_the_fix(tmp_path: Path) -> None:
    # Given
    (tmp_path / "file").touch()
    # Then
    with pytest.raises(
        ConfigError,
        match=r"one\.jsonl cannot be written \(Not a directory\); make room, or set XDG_STATE_HOME",
    ):
        open_journal(tmp_path / "file" / "runs", "one", "head", DOOR)


# -- what is damaged -------------------------------------------------------------------


def test_damaged_lines_are_skipped_and_counted(journal: Journal) -> None:
    # Given
    journal.append([entry(), entry("completed")])
    before = journal.path.read_bytes()
    damaged = [
        b"", b"{", b"[]", b"null", b"1", b'{"id":7}', b'{"k":"moonbeam","e":"1"}', b"\xff\xfe",
        b"[" * 50_000,
        before.splitlines()[1].replace(b'"q":"2"', b'"q":"3"'),
        before.splitlines()[1].replace(b"passed", b"failed"),
    ]  # fmt: skip
    # When
    head, first, second = before.splitlines()
    journal.path.write_bytes(b"\n".join([head, *damaged, first, *damaged, second, b""]))
    # Then
    assert list(journal.replay()) == [entry(), entry("completed")]
    assert journal.skipped == 2 * len(damaged)
    assert journal.positions == {"c1.1": 3}
    assert len(list(journal.replay())) == 2
    assert journal.skipped == 2 * len(damaged), "counted anew with each replay"


@pytest.mark.parametrize(
    "door", [run_door("one", OTHER_KEY), run_door("one", nonce="f" * 16), run_door("two")]
)
def test_what_another_run_or_another_key_has_written_is_skipped(
    tmp_path: Path, journal: Journal, door: Door
) -> None:
    # Given
    journal.append([entry(), entry("claimed", 0)])
    journal.close()
    # When
    other = Journal(tmp_path, "one", "head", door, go_on=True)
    # Then: what the store says by itself has no signature
    assert list(other.replay()) == [entry("claimed", 0)]
    assert other.skipped == 1
    other.close()


def test_a_field_that_is_none_of_ours_changes_no_id(journal: Journal) -> None:
    # Given an entry of the stream to which an attacker has added a field of this name
    odd = read_entry(DOOR, "7-0", {**streams.claimed(held(5)), "id": "9999999999999-0", "z": "é"})
    # When
    journal.append([odd])
    # Then
    (found,) = journal.replay()
    assert (found.id, found.fact) == ("7-0", odd.fact)


def test_a_replay_restores_how_far_each_attempt_is_journalled(
    tmp_path: Path, journal: Journal
) -> None:
    # Given
    journal.append([entry(seq=1), entry(seq=2), entry(chunk="c2", seq=4), entry("completed", 2)])
    journal.close()
    # When
    again = Journal(tmp_path, "one", "head", DOOR, go_on=True)
    assert again.positions == {}
    list(again.replay())
    # Then
    assert again.positions == {"c1.1": 3, "c2.1": 4}
    again.close()


def test_a_secret_that_a_test_printed_is_not_on_this_disk(journal: Journal) -> None:
    # Given a password, and one that is a value of the protocol as well
    masking.PROCESS.learn(["correct-horse", "completed"])
    said = finished(0, "failed", output="login with correct-horse", reason="it is completed")
    fields = streams.recorded(DOOR, held(5), 1, said)
    # When
    journal.append([read_entry(DOOR, "1-1", fields), entry("completed", 1)])
    # Then: what the fold decides by is as it was
    assert "correct-horse" not in journal.path.read_text()
    records, end = journal.replay()
    assert isinstance(records.fact, Recorded)
    (record,) = records.fact.records
    assert isinstance(record, TestRecord)
    assert (record.outcome, record.output, record.reason) == (
        Outcome.FAILED,
        "login with **",
        "it is **",
    )
    assert end == entry("completed", 1)


def test_a_secret_with_quotes_is_not_on_this_disk_either(journal: Journal) -> None:
    # Given: in a signed text it is JSON, in a line of the journal it is JSON within JSON
    masking.PROCESS.learn(['correct "horse"'])
    fields = streams.recorded(
        DOOR, held(5), 1, finished(0, "failed", output='login with correct "horse"')
    )
    # When
    journal.append([read_entry(DOOR, "1-1", fields)])
    # Then
    assert "horse" not in journal.path.read_text()
